"""What several files of tests start from: worlds, deliveries, oracles, hosts outside."""
