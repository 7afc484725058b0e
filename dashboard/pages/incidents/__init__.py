"""Incidents: the queue, and one incident with what its desk does about it."""
