"""What runs inside child processes, one file a role."""
