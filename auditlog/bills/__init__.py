"""Bills: import what a provider says was spent, match it with the record, close months, export."""
