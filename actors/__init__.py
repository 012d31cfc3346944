"""The three actors (queue, embedder, driver), what they say to each other, and what they read and write."""
