"""The log's table in SQLite: written by one process, and read by others in short transactions."""
