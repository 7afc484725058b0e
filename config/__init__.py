"""Edges of the whole: environment, settings, addresses, errors, the embedded servers."""
