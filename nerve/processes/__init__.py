"""Forking, supervising and talking to the child processes; the kernel's side."""
