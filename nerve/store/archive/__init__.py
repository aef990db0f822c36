"""The archive: whole days that have left the table, in files that a manifest names."""
