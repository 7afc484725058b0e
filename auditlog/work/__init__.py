"""Wake-ups and rounds: work driven from positions in PostgreSQL, and how far behind it is."""
