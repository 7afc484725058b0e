"""How soon an event is judged after its receipt, at a steady rate, and which rate is the highest that can be kept.

For measuring: `bench live`. The position of detection and the findings up to it are committed together: when another reader
sees the one past an event, every rule that does not wait has judged it, and what it found can be read.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from django.db import connection, connections

from auditlog.models import Leaf, LogHead, ProjectionState, Tenant

WITHIN = 2.0  # seconds from receipt to findings that anybody can read, p95
KEPT = 0.97  # of a rate: a sender that was slower than that was held up
STEP = 1.5  # from one rate to the next
LOOK = 0.05  # seconds between two looks


@dataclass(slots=True)
class Trial:
    """One rate, kept for a while. Delays in seconds."""

    rate: int
    sent_per_s: float = 0.0
    delays: list[float] = field(default_factory=list)
    behind: int = 0  # leaves that detection had not taken when the sender ended

    @property
    def p95(self) -> float | None:
        """None where too few events were seen to say anything."""
        return sorted(self.delays)[int(len(self.delays) * 0.95)] if len(self.delays) >= 20 else None

    @property
    def holds(self) -> bool:
        """Whether the rate was kept, events were judged in time, and no more was left behind than arrives in that time."""
        in_time = self.p95 is not None and self.p95 <= WITHIN
        return in_time and self.sent_per_s >= KEPT * self.rate and self.behind <= WITHIN * self.rate


class Watch:
    """Sees how far detection has come, as another reader does. After it, `delays`: of the leaves that came meanwhile."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant, self.delays = tenant, []
        self._seen: list[tuple[datetime, int]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> "Watch":
        self._first = LogHead.objects.get(tenant=self.tenant).size
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._over.set()
        self._thread.join()
        rows = Leaf.objects.filter(tenant=self.tenant, leaf_index__gte=self._first).order_by("leaf_index")
        seen = iter(self._seen)
        at, detected = next(seen, (None, 0))
        for index, received_at in rows.values_list("leaf_index", "received_at").iterator():
            while at is not None and detected <= index:
                at, detected = next(seen, (None, 0))
            if at is None:
                return
            self.delays.append((at - received_at).total_seconds())

    def _look(self) -> None:
        while True:
            is_last = self._over.wait(LOOK)  # what was done before the end is seen
            with connection.cursor() as cursor:
                cursor.execute("SELECT clock_timestamp()")
                [at] = cursor.fetchone()
            detected = ProjectionState.objects.get(tenant=self.tenant, is_current=True).detected
            if not self._seen or detected > self._seen[-1][1]:
                self._seen.append((at, detected))
            if is_last:
                break
        connections.close_all()


def highest(attempt: Callable[[int], Trial], *, first: int) -> tuple[Trial | None, list[Trial]]:
    """The highest rate that held, and every trial: upward by STEP while it holds (downward while it does not), then twice
    between the last that held and the first that did not.
    """
    tried: list[Trial] = []

    def holds(rate: int) -> bool:
        tried.append(attempt(rate))
        return tried[-1].holds

    low, high = 0, 0
    rate = first
    if holds(rate):
        while holds(rate := round(rate * STEP)):
            pass
        low, high = round(rate / STEP), rate
    else:
        while rate > 10 and not holds(rate := round(rate / STEP)):
            pass
        low, high = (rate, round(rate * STEP)) if tried[-1].holds else (0, rate)
    for _ in range(2):
        if low and high - low > low // 20:
            middle = (low + high) // 2
            low, high = (middle, high) if holds(middle) else (low, middle)
    return max((trial for trial in tried if trial.holds), key=lambda trial: trial.rate, default=None), tried
