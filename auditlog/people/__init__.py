"""People: how they come in, who they are, and what an admin hands out to them."""
