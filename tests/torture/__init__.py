"""Torture: break a real engine while it runs, then check that its log has every event exactly once."""
