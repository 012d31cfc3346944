"""What `rayembed demo` needs beyond the job itself: a real corpus, and a search over its vectors."""
