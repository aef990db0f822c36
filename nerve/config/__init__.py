"""nerve.yaml: its keys, reading it, and comparing two versions of it."""
