"""The archive: whole days that were moved from the table to files, which a manifest lists."""
