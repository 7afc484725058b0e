"""Respond: stop an agent through whoever can, and say what became of it. Signals out, stops, receivers, response policies."""
