"""Maintenance: archiving, deleting and checkpoints keep the log small."""
