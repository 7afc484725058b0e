"""Pure nouns: event, leaf, merkle, checkpoint, money, domain, chain, authority, finding, reading, errors."""
