"""Alerts: who is told of incidents, what is news to them, and how it is sent to them. Each thing once."""
