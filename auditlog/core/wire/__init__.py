"""What senders put on the wire: signatures, keys, tokens, and what must never be kept of it."""
