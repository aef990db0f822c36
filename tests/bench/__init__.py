"""A benchmark: nerve beside alternatives and beside the physical limit, all in one run."""
