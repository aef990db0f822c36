"""What runs a sense inside a worker."""
