"""Findings as they are kept: written, gathered, withdrawn, and what people make of them."""
