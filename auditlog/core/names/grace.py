"""Until when a registration can be given back for its price: the add grace period of its registry.

In gTLDs it is 5 days (ICANN, Registry Agreement, specification 10 and the AGP Limits Policy: a registrar is refunded
deletes up to the larger of 50 names or 10 % of its net adds in a month). Registries of countries have their own rules.
Listed are those whose names a large registrar took back for the price within 4 days (its table of money-back periods,
read 2026-11-27), which a grace of 5 days allows; where it took none back, or nobody looked, it is not known.
"""

from datetime import datetime, timedelta

from auditlog.core.names import domain

GTLD = timedelta(days=5)
_COUNTRIES = {tld: timedelta(days=5) for tld in "bz cc in mn tv us".split()}
CAP = (
    "A registry refunds a registrar only the larger of 50 names or 10 % of its net adds in a month: of so many names, "
    "perhaps not all."
)
MANY = 50


def undo_until(name: str, at: datetime) -> datetime | None:
    """When the grace of a name registered at this time ends; None where its registry's rule is not known."""
    try:
        parsed = domain.parse(name)
    except ValueError:
        return None
    top = parsed.suffix.rpartition(".")[2]
    if not domain.zone(parsed.ascii) or top.startswith("xn--"):
        return None
    grace = _COUNTRIES.get(top) if len(top) == 2 else GTLD
    return at + grace if grace is not None else None


def last_of(names: list[tuple[str, datetime]]) -> datetime | None:
    """The end of the last grace among these names, of those that are known."""
    return max((until for name, at in names if (until := undo_until(name, at)) is not None), default=None)
