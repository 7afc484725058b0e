"""Delegation: grants, chains, authority, gates, and the acts that stand on them."""
