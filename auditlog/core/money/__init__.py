"""Money: statements of it, the books, limits in force, what could still be charged."""
