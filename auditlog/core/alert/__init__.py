"""An alert: what is news of an incident, when people are not to be woken, and how it is put for whom."""
