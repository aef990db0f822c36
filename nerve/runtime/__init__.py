"""The code that runs a sense inside a worker."""
