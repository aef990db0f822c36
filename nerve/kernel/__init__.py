"""The parent process: it decides, records and supervises, and never opens the log."""
