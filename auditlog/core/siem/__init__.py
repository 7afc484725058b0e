"""Out to a SIEM, as values: OCSF, CEF, and what the service says of its own doors."""
