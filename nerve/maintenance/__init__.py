"""What keeps the log small: archiving, deleting, and checkpoints."""
