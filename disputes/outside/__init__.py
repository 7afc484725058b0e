"""Who comes from outside: complaints, and one party of one case by a link."""
