"""The grace after receipt: what is missing of an act means nothing before it is over."""

from datetime import datetime, timedelta

GRACE = timedelta(seconds=10)


def is_ripe(received_at: datetime, now: datetime, grace: timedelta = GRACE) -> bool:
    """Whether the grace after receipt is over. What lies further ahead than a grace was received before the clock was set
    back: how long ago nobody knows, and a grace is short.
    """
    return not -GRACE <= now - received_at < grace
