"""The control socket between `nerve ...` commands and the running engine."""
