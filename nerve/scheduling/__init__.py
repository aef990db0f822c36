"""When a run starts: pure decisions that are passed the time."""
