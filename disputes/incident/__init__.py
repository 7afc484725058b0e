"""Incidents with the cases about them: reads and addresses. What an incident is, auditlog.incidents says."""
