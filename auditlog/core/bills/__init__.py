"""Bills: what a provider says was spent, line by line, and how its lines go with the charges on record. Pure."""
