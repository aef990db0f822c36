"""nerve.yaml: what it means, how it is read, and how two of it differ."""
