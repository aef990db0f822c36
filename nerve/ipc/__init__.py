"""Framed messages over sockets and pipes, and the loop that waits for them."""
