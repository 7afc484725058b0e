"""Pages of cases: the list and the case, and what is answered to a bank."""
