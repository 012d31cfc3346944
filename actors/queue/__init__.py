"""The shared queue: which parts there are, who holds them, what is left."""
