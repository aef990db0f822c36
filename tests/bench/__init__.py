"""A benchmark: nerve beside what a user would pick instead, and beside the physical limit, in one run."""
