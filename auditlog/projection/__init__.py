"""The fold over leaves in order: acts, chains, money, sources; and how leaves are taken out again."""
