"""The log: leaves, the Merkle tree, checkpoints, tiles and proofs (RFC 6962, C2SP)."""
