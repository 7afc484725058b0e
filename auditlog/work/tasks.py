"""Celery wake-ups around the verbs. A message says "look", never what to do: the work list is in PostgreSQL."""

import threading
import time

import structlog
from celery import shared_task
from prometheus_client import Counter

from auditlog.database import clock

log = structlog.get_logger()
WAKE_EVERY = 0.1  # seconds: at most one wake-up a tenant and process in this time
A_NIGHT = 2_000_000  # leaves of a log that are verified in one night
LATE = 0.3  # seconds: a round that follows the one before so closely waited in line behind it
QUIET = 5.0  # seconds without a try after a failed one: a broker that hangs must not hold every request
SLICE = 2.0  # seconds on one tenant before the others have their turn
UNSENT = Counter("answerable_wakeups_unsent", "Wake-ups that the broker did not take; beat drives the work instead")
_last_sent: dict[str, float] = {}
_held_back: dict[str, threading.Timer] = {}  # by tenant: the wake-up that goes out when the time is over
_lock = threading.Lock()
_last_round: dict[str, float] = {}  # of this worker process: when its last round of each kind began
_quiet_until = 0.0


def wake(tenant: str) -> None:
    """Ask a worker to walk the tenant's road. Never raises: without a broker the work waits for beat.

    One is sent at once; those that come within the next tenth of a second are one more, sent when it is over.
    """
    now = time.monotonic()
    with _lock:
        wait = _last_sent.get(tenant, -1.0) + WAKE_EVERY - now
        if wait > 0:
            if tenant not in _held_back:
                timer = _held_back[tenant] = threading.Timer(wait, lambda: _wake_late(tenant, timer))
                timer.daemon = True
                timer.start()
            return
        _last_sent[tenant] = now
        if late := _held_back.pop(tenant, None):  # this one is it
            late.cancel()
    _send(tenant)


def _wake_late(tenant: str, timer: threading.Timer) -> None:
    with _lock:
        if _held_back.get(tenant) is not timer:  # one that was sent meanwhile stood for it
            return
        del _held_back[tenant]
        _last_sent[tenant] = time.monotonic()
    _send(tenant)


def _send(tenant: str) -> None:
    """Send one wake-up, or count that it was not sent. It has no time of its own: hosts' clocks differ, and are set."""
    global _quiet_until
    if time.monotonic() < _quiet_until:
        UNSENT.inc()
        return
    try:
        drive.apply_async([tenant], ignore_result=True, retry=False)
    except Exception as error:
        UNSENT.inc()
        _quiet_until = time.monotonic() + QUIET
        log.warning("wake-up not sent", tenant=tenant, error=type(error).__name__)


@shared_task(name="auditlog.drive", ignore_result=True)
def drive(tenant: str) -> None:
    """Project and detect. What is left after a slice comes again, behind what waits for this worker."""
    from auditlog.work.drive import drive_tenant

    _say_alive()
    if drive_tenant(tenant, now=clock.now, for_at_most=SLICE):
        _send(tenant)


@shared_task(name="auditlog.drive_all", ignore_result=True)
def drive_all() -> None:
    """Beat's round: whatever the wake-ups missed, and what waited for its grace period."""
    from auditlog.work.drive import drive_every_tenant

    _say_alive()
    if _is_late("drive_all"):
        return
    clock.follow(at=clock.now())
    drive_every_tenant(now=clock.now, for_at_most=SLICE)


def _is_late(name: str) -> bool:
    """Whether this round comes right after the last: beat sends one a second, so it waited in line behind that one."""
    now = time.monotonic()
    if now - _last_round.get(name, -1.0) < LATE:
        return True
    _last_round[name] = now
    return False


@shared_task(name="auditlog.pull_all", ignore_result=True)
def pull_all() -> None:
    """Ask others for what is due (key sets, events, what was announced), and send exports. In threads: it returns at
    once.
    """
    from auditlog.work.rounds import start_due

    if not _is_late("pull_all"):
        start_due(now=clock.now, done=wake)


@shared_task(name="auditlog.respond", ignore_result=True)
def respond() -> None:
    """Send the signals of a stop that was pressed just now. In threads: it returns at once."""
    from auditlog.work.rounds import start_signals

    start_signals(now=clock.now)


@shared_task(name="auditlog.backtest", ignore_result=True)
def backtest() -> None:
    """Run the back-test that waits longest, if one does."""
    from auditlog.work.rounds import start_backtest

    start_backtest(now=clock.now)


@shared_task(name="auditlog.nightly", ignore_result=True)
def nightly() -> None:
    """Start what runs once a night, when its time has come."""
    at = clock.now()
    if clock.its_night("verify-nightly", hour=2, minute=30, at=at):
        verify_logs()
    if clock.its_night("tidy-nightly", hour=4, minute=30, at=at):
        tidy_door.apply_async(expires=3600, retry=False)
    if clock.its_night("retain-nightly", hour=3, minute=30, at=at):
        retain()


@shared_task(name="auditlog.verify_logs", ignore_result=True)
def verify_logs(tenant: str = "", left: int = A_NIGHT) -> None:
    """Verify the next window of one log or of all, and keep what came of it; then the windows after it, each behind
    what waits for this worker, up to `left` leaves. What is left then comes the next night.
    """
    from auditlog.custody.inspect_log import verify_next
    from auditlog.ledger.append import EPOCH
    from auditlog.models import LogHead, Tenant

    for row in Tenant.objects.filter(name=tenant) if tenant else Tenant.objects.order_by("id"):
        done = verify_next(row, now=clock.now)
        rest = left - (done.end_leaf - done.first_leaf)
        if not done.problem and rest > 0 and done.end_leaf < LogHead.objects.get(tenant=row, epoch=EPOCH).size:
            try:
                verify_logs.apply_async([row.name, rest], ignore_result=True, retry=False)
            except Exception as error:
                log.warning("the rest of a log is not verified now", tenant=row.name, error=type(error).__name__)


@shared_task(name="auditlog.watch", ignore_result=True)
def watch() -> None:
    """Hold what is stored against what the logs say, a little of each. What stops one is logged, and the others go on."""
    from auditlog.custody.watch import watch as look
    from auditlog.models import Tenant

    for tenant in Tenant.objects.order_by("id"):
        try:
            look(tenant, now=clock.now())
        except Exception:
            log.exception("tenant not watched", tenant=tenant.name)


@shared_task(name="auditlog.retain", ignore_result=True)
def retain() -> None:
    """Run every retention policy: the armed ones erase, the others count. What stops one is logged, and the others go
    on.
    """
    from auditlog.custody.erase import retain as run
    from auditlog.models import RetentionPolicy

    for policy in RetentionPolicy.objects.select_related("tenant").order_by("id"):
        try:
            run(policy, now=clock.now())
        except Exception:  # whatever it was, another tenant's duty to erase is not put off by it
            log.exception("policy not run", tenant=policy.tenant.name, policy=policy.name)


@shared_task(name="auditlog.forget_erased", ignore_result=True)
def forget_erased() -> None:
    """Build projections anew that may still say what was erased: whoever erased it died before, or another was at it."""
    from auditlog.custody.erase import forget
    from auditlog.models import ProjectionState

    for state in ProjectionState.objects.select_related("tenant").filter(is_current=True, is_stale=True):
        forget(state.tenant, now=clock.now())


def _say_alive() -> None:
    """Not by beat's round alone: under load that waits in line for longer than a worker may be silent."""
    from auditlog.work.health import beat

    now = time.monotonic()
    if now - _last_sent.get("", -1.0) >= 1.0:  # no tenant has this name
        _last_sent[""] = now
        beat("worker", now=clock.now())


@shared_task(name="auditlog.tidy_door", ignore_result=True)
def tidy_door() -> None:
    """Take out sessions, tries and links that are over."""
    from auditlog.people.tidy import tidy

    tidy(now=clock.now())
