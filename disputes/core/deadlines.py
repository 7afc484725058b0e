"""Deadlines: by when what a case waits for has to come, and what becomes of it otherwise. Pure.

A clock of a case's own runs while the case is in a state. Others (a bank's, a network's, a law's) are set by hand, from
a preset or to a date. Business days are Monday to Friday in the zone that the deadline names; public holidays are not
known here, and the date may be set by hand.

A deadline that is missed decides on the record: what is missing is missing, and nobody wins or loses by that alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

Source = Literal["internal", "contract", "network", "law"]


@dataclass(frozen=True, slots=True)
class Preset:
    """`days` from when it began, business days where `business`. `basis` says whose rule it is and where it stands."""

    kind: str
    days: int
    business: bool
    source: Source
    basis: str


# While a case is in a state, and what it becomes when nobody has moved it by then; "" stays, and is shown as overdue.
OF_STATES: dict[str, tuple[Preset, str]] = {
    "filed": (Preset("acknowledge", 1, True, "internal", "a complaint is acknowledged within one business day"), ""),
    "intake": (Preset("intake", 2, True, "internal", "intake is done within two business days"), ""),
    "deficient": (Preset("cure", 5, False, "internal", "what is lacking is handed in within five days"), "closed"),
    "evidence_open": (Preset("response", 20, False, "internal", "both sides have 20 days"), "record_sealed"),
    "record_sealed": (Preset("assessment", 5, True, "internal", "the assessment takes five business days"), ""),
    "assessment": (Preset("assessment", 5, True, "internal", "the assessment takes five business days"), ""),
    "proposed": (Preset("review", 2, True, "internal", "a proposal is reviewed within two business days"), ""),
    "review": (Preset("review", 2, True, "internal", "a proposal is reviewed within two business days"), ""),
    "decided": (Preset("appeal", 10, True, "internal", "an appeal is open for ten business days"), "final"),
    "appealed": (Preset("appeal_decision", 14, False, "internal", "an appeal is decided within 14 days"), ""),
    "appeal_review": (Preset("appeal_decision", 14, False, "internal", "an appeal is decided within 14 days"), ""),
    "appeal_proposed": (Preset("appeal_decision", 14, False, "internal", "an appeal is decided within 14 days"), ""),
    "final": (Preset("remedy", 10, True, "internal", "a remedy begins within ten business days"), ""),
    "remedy_pending": (Preset("remedy", 10, True, "internal", "a remedy begins within ten business days"), ""),
}

# What a person may set beside them. Days count from the day that is given with it. Those of the three card networks were held
# against public tables (2026-11-27), the others are written from general knowledge: whoever sets one reads the rule that applies.
PRESETS: dict[str, Preset] = {
    "visa_response": Preset("response", 30, False, "network", "Visa: response of the acquirer, 30 days from the dispute"),
    "mastercard_response": Preset("response", 45, False, "network", "Mastercard: second presentment, 45 days from the chargeback"),
    "amex_response": Preset("response", 20, False, "network", "American Express: response, 20 days from the inquiry"),
    "reg_e_provisional_credit": Preset("credit", 10, True, "law", "Regulation E, 12 CFR 1005.11(c): credit or result within 10 business days"),
    "reg_e_investigation": Preset("investigation", 45, False, "law", "Regulation E, 12 CFR 1005.11(c): investigation within 45 days"),
    "reg_e_investigation_extended": Preset("investigation", 90, False, "law", "Regulation E, 12 CFR 1005.11(c): 90 days for new accounts, card and foreign transfers"),
    "reg_z_notice": Preset("notice", 60, False, "law", "Regulation Z, 12 CFR 1026.13(b): billing error notice, 60 days from the statement"),
    "reg_z_acknowledge": Preset("acknowledge", 30, False, "law", "Regulation Z, 12 CFR 1026.13(c): acknowledged within 30 days"),
    "reg_z_resolution": Preset("resolution", 90, False, "law", "Regulation Z, 12 CFR 1026.13(c): resolved within two billing cycles, at most 90 days"),
    "psd2_refund": Preset("refund", 1, True, "law", "PSD2 art. 73: refund by the end of the next business day"),
    "psd2_notice": Preset("notice", 395, False, "law", "PSD2 art. 71: notice without undue delay, at the latest after 13 months"),
    "psd2_refund_request": Preset("notice", 56, False, "law", "PSD2 art. 77: refund of a payment by the payee asked for within eight weeks"),
    "psd2_refund_answer": Preset("refund", 10, True, "law", "PSD2 art. 77: answered within ten business days"),
    "ach_return": Preset("return", 60, False, "network", "Nacha: unauthorized debit returned within 60 days of settlement"),
    "udrp_response": Preset("response", 20, False, "contract", "UDRP rule 5: response within 20 days of commencement"),
    "dsa_complaint": Preset("complaint", 183, False, "law", "EU DSA art. 20: internal complaint, at least six months from the decision"),
    "add_grace": Preset("undo", 5, False, "contract", "add grace period of gTLD registries: five days from the registration"),
}  # fmt: skip
WARNINGS = ("half", "three_days", "one_day", "overdue")


class Clock(NamedTuple):
    """A deadline that runs. `warned`: warnings that were given."""

    begins_at: datetime
    due_at: datetime
    warned: Sequence[str] = ()


def due_at(preset: Preset, begins_at: datetime, zone: str = "UTC") -> datetime:
    """When it is over: so many times 24 hours after it began, or the end of the last business day in the zone."""
    if not preset.business:
        return begins_at + timedelta(days=preset.days)
    local = begins_at.astimezone(ZoneInfo(zone))
    left = preset.days
    day = local.date()
    while left:
        day += timedelta(days=1)
        left -= day.weekday() < 5
    return datetime(day.year, day.month, day.day, 23, 59, 59, tzinfo=ZoneInfo(zone)).astimezone(begins_at.tzinfo)


def warnings_due(clock: Clock, now: datetime) -> list[str]:
    """Warnings whose time has come and that were not given: each once. One that lies before the beginning is not given."""
    return [name for name, at in _times(clock) if at <= now]


def next_time(clock: Clock) -> datetime | None:
    """When the next warning is to be given; None when all were."""
    return min((at for _, at in _times(clock)), default=None)


def _times(clock: Clock) -> list[tuple[str, datetime]]:
    times = {
        "half": clock.begins_at + (clock.due_at - clock.begins_at) / 2,
        "three_days": clock.due_at - timedelta(days=3),
        "one_day": clock.due_at - timedelta(days=1),
        "overdue": clock.due_at,
    }
    return [(name, times[name]) for name in WARNINGS if name not in clock.warned and clock.begins_at < times[name]]
