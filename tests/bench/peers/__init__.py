"""The peers: what a user would pick instead of nerve, each doing the same work in the way its documentation shows."""
