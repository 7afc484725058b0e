"""Detect: fold the acts that changed, keep what the detectors say, and what people make of it."""
