"""Forecast: when a monthly limit is reached, if money goes on being spent as in the last days. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from math import sqrt

WEEK, FEWEST = 7, 4  # days looked back, and days with spending that there must be among them
SPREAD = 1.28  # of the mean: an interval of eighty per cent
SURE = 1.0  # times the limit that even the slow end of the interval has to come to
BEGUN = 0.1  # of the limit must be spent: before that a month has hardly begun


@dataclass(frozen=True, slots=True)
class Forecast:
    """`hours`: until the limit is reached from the end of `day`, at the mean rate; and the interval around it."""

    day: date
    spent: float
    limit: float
    per_day: float
    hours: float
    soonest: float
    latest: float


def forecast(days: Mapping[date, float], *, start: date, end: date, limit: float) -> Forecast | None:
    """None where the limit is reached already, or may not be. `days`: what was spent; `end` exclusive. The rate is that of the last
    week, its free days included, so that working days are not taken for all days.
    """
    mine = [day for day, amount in days.items() if start <= day < end and amount > 0]
    if not mine or limit <= 0:
        return None
    day = max(mine)
    spent = sum(amount for each, amount in days.items() if start <= each <= day)
    recent = [days.get(day - timedelta(days=n), 0.0) for n in range(WEEK)]
    left = (end - day).days - 1
    if spent >= limit or spent < BEGUN * limit or left < 1 or sum(amount > 0 for amount in recent) < FEWEST:
        return None
    mean = sum(recent) / WEEK
    spread = sqrt(sum((amount - mean) ** 2 for amount in recent) / (WEEK - 1)) / sqrt(WEEK)
    slow, fast = mean - SPREAD * spread, mean + SPREAD * spread
    # One day that was most of the week tells of no rate.
    if slow <= 0 or max(recent) > sum(recent) / 2 or spent + slow * left < SURE * limit:
        return None
    rest = limit - spent
    return Forecast(day, spent, limit, mean, *(24 * rest / rate for rate in (mean, fast, slow)))
