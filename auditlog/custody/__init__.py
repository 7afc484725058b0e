"""What keeps a ledger honest once it stands: verify, watch, witness, erase, bundle, back up, log the doors."""
