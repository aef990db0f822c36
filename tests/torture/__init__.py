"""The torture: a real engine is broken while it runs, and its log is then checked as a set."""
