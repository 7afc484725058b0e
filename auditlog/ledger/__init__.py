"""The ledger: append under the log's lock, publish signed heads, read stored leaves back, prove."""
