"""What the entries tell together: where a run came from, what came of it, and how each sense does."""
