"""Names: domain names as names, and which brand one stands close to."""
