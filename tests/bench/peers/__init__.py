"""The peers: alternatives to nerve, each doing the same work in the way that its documentation shows."""
