"""Provenance: the causes and effects of runs, from the entries in the log."""
