"""Incidents: findings of one cause are gathered, read, and handled by people."""
