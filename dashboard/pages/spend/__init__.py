"""Spend: charges, the same by any two of their sides, bills and months."""
