"""A small world that signs real events and misbehaves on request: for quickstart's demo, for bench and for tests.

signing   keys from a seed: compact JWS for Security Event Tokens, HMAC headers for Stripe
world     one builder for parties, grants, tokens, limits, approvals and acts; every call returns a signed delivery
story     thirty ordinary days with known incidents in them, and what must (and must not) be found
play      send a story through the real HTTP ingest
load      many distinct signed events, fast

No Django here, and no clock: whoever builds a world says what time it is.
"""
