"""What `rayembed bench` needs beyond the job itself: how much to embed, what came of it, what to make of that."""
