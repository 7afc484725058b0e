"""Out to a SIEM: streams of lines from a cursor on, and their delivery."""
