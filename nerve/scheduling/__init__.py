"""When a run starts: pure decisions, which are passed the time."""
