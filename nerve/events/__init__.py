"""What is recorded: the events, their payloads, and what is masked in them."""
