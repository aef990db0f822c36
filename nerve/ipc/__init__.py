"""Framed messages over sockets and pipes, and the event loop that waits for them."""
