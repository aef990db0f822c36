"""Verification: whether the log has every entry, and which part is damaged."""
