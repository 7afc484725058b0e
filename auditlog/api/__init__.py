"""The edges: HTTP views, addresses and JSON shapes. Each translates, calls one verb or query, answers."""
