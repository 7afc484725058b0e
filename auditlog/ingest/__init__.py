"""Receive and verify deliveries; fetch and poll what is not delivered (first two steps of the road)."""
