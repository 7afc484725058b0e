"""Who may send: configure sources and keys, hold their secrets, call what is asked for from outside."""
