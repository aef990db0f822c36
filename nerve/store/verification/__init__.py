"""Whether the log has every entry: what is damaged, and where."""
