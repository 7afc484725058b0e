"""People: who counts as one pair of eyes. A person is written as the keys of all accounts that are his, joined by `+`."""

NOBODY_KNOWS = "token:?"  # a token without an owner: it may be anybody's


def are_one(person: str, other: str) -> bool:
    """Whether two callers are one person: they share an account."""
    return not set(person.split("+")).isdisjoint(other.split("+"))


def may_be_one(person: str, other: str) -> bool:
    """Whether they are one, or one of them may be anybody."""
    return NOBODY_KNOWS in (person, other) or are_one(person, other)
