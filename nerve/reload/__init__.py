"""Hot reload: the files on disk against what is active."""
