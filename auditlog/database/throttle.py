"""Throttle: how often something secret may be tried, counted in the database, for all processes and hosts together.

A try counts before anybody knows whether it was right, so that a thousand at once are no more than one after another.
The first few are free; then each opens the door again later, twice as late every time. What succeeds is taken back.
Only hashes are kept. Times are the database's.
"""

from dataclasses import dataclass
from hashlib import sha256
from ipaddress import ip_address, ip_network

from django.db import connection

WINDOW = 15 * 60  # seconds without a try after which they are forgotten


@dataclass(frozen=True, slots=True)
class Rule:
    free: int  # tries before the first wait
    longest: int  # seconds that one waits at most


# One account from one address; one account from everywhere, which must not lock its owner out for long; one address.
PAIR, ACCOUNT, ADDRESS = Rule(5, 900), Rule(30, 30), Rule(60, 900)


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of asking: may go on when `wait` is 0. `tries` are those of this account, with this one."""

    wait: int  # seconds
    tries: int
    begins: bool  # this try is the first that is followed by a wait


def attempt(door: str, *, account: str = "", address: str = "") -> Tried:
    """Count one try, unless the door is still shut."""
    tries, begins = 0, False
    for key, rule in _keys(door, account, address):
        wait, counted, begun = _count(key, rule)
        if wait:
            return Tried(wait, counted, False)
        tries, begins = tries or counted, begins or begun
    return Tried(0, tries, begins)


def succeeded(door: str, *, account: str = "", address: str = "") -> int:
    """It was right: the account's tries are forgotten, the address has one less. Returns how many went before."""
    before = 0
    for key, rule in _keys(door, account, address):
        with connection.cursor() as cursor:
            if rule is ADDRESS:
                cursor.execute(
                    "UPDATE signin_attempt SET tries = greatest(0, tries - 1), open_at = last_at WHERE key = %s", [key]
                )
            else:
                cursor.execute("DELETE FROM signin_attempt WHERE key = %s RETURNING tries", [key])
                before = max(before, (cursor.fetchone() or [1])[0] - 1)
    return before


def forget_old() -> int:
    """Take out what is older than the window. Returns how many."""
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM signin_attempt WHERE last_at < clock_timestamp() - make_interval(secs => %s)", [2 * WINDOW]
        )
        return cursor.rowcount


def _network(address: str) -> str:
    """Whom an address stands for: of IPv6, everybody has a whole network of them."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else address


def _keys(door: str, account: str, address: str) -> list[tuple[bytes, Rule]]:
    address = _network(address)
    given = [
        (("pair", account, address), PAIR),
        (("account", account), ACCOUNT),
        (("address", address), ADDRESS),
    ]
    return [
        (sha256("\x00".join((door, *parts)).encode("utf-8", "replace")).digest(), rule)
        for parts, rule in given
        if all(parts)
    ]


# One statement: of many at once, each sees what the one before it counted. No row comes back while the door is shut. A
# clock that was set back does not shut a door for longer than the rule says.
_COUNT = """
    INSERT INTO signin_attempt AS a (key, tries, last_at, open_at)
    VALUES (%(key)s, 1, clock_timestamp(), clock_timestamp())
    ON CONFLICT (key) DO UPDATE SET
        tries = CASE WHEN a.last_at < clock_timestamp() - %(window)s * interval '1 s' THEN 1 ELSE a.tries + 1 END,
        last_at = clock_timestamp(),
        open_at = CASE
            WHEN a.last_at < clock_timestamp() - %(window)s * interval '1 s' OR a.tries < %(free)s
                THEN clock_timestamp()
            ELSE clock_timestamp() + least(%(longest)s, power(2, least(20, a.tries - %(free)s))) * interval '1 s' END
        WHERE a.open_at <= clock_timestamp() OR a.open_at > clock_timestamp() + %(longest)s * interval '1 s'
    RETURNING a.tries
"""
_SHUT = "SELECT tries, ceil(extract(epoch FROM open_at - clock_timestamp()))::int FROM signin_attempt WHERE key = %s"


def _count(key: bytes, rule: Rule) -> tuple[int, int, bool]:
    """Seconds to wait (0: go on), tries so far, and whether this one begins the waiting."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"key": key, "window": WINDOW, "free": rule.free, "longest": rule.longest})
        if (row := cursor.fetchone()) is not None:
            return 0, row[0], row[0] == rule.free + 1
        cursor.execute(_SHUT, [key])
        tries, wait = cursor.fetchone() or (1, 1)
    return max(1, wait), tries, False
