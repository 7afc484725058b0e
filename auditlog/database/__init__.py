"""What every room asks of PostgreSQL: rows in bulk, its clock, its planner, one question for many threads."""
