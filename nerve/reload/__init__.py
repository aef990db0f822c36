"""Hot reload: compare the files on disk with the active revision, and update it."""
