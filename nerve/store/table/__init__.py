"""The log's table in SQLite: written by one process, read by everyone in short reads."""
