"""Poll: sources that are asked for their events. What comes walks the road of any delivery, and the place where the
next request goes on is kept only once that is durable: who dies in between asks for the same again, and repeats are
dropped.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import ModuleType

import structlog

from auditlog import formats
from auditlog.core.errors import OutboundError, Refused, TooManyRequests, UnexpectedAnswer, UnknownKid
from auditlog.formats import Delivery
from auditlog.ingest.receive import Taken, ingest, read_by_format, refuse, take
from auditlog.models import Pull, Source
from auditlog.sources import outbound
from auditlog.sources.pull import alone, expected_ok, failed, keep, pull_of, succeeded, with_key
from auditlog.sources.sender import sender_of

log = structlog.get_logger()
PAGES = 20  # of one round: then others have their turn
BOUNDS = outbound.Bounds(read=15.0, total=30.0, size=16 * 1024 * 1024)


def poll(
    source: Source, *, now: Callable[[], datetime], call: outbound.Call = outbound.call, for_at_most: float = 20.0
) -> int:
    """Ask a source for its events, if it is time, until it has no more or for so many seconds. Returns how many were
    new.

    Does nothing while somebody else is at it. What goes wrong is kept for the source's page.
    """
    with alone(source, Pull.Kind.POLL) as mine:
        pull = pull_of(source, Pull.Kind.POLL)
        if not mine or source.state != Source.State.ACTIVE or (pull.due_at is not None and pull.due_at > now()):
            return 0
        module, brought, warnings, more = formats.named(source.format), 0, [], True
        ends, pages = time.monotonic() + for_at_most, 0
        try:
            while more and pages < PAGES and time.monotonic() < ends:
                new, more = _page(source, pull, module, warnings, now=now, call=call)
                brought, pages = brought + new, pages + 1
            _close(source, pull, module, warnings, now=now, call=call)
        except UnexpectedAnswer as error:
            restarts = error.status in (400, 404, 410) and hasattr(module, "poll_restart")
            state = module.poll_restart(pull.state) if restarts else pull.state
            failed(pull, error, now=now(), asked=error.retry_after, state=state)
        except TooManyRequests as error:
            failed(pull, error, now=now(), asked=error.retry_after)
        except (OutboundError, Refused) as error:
            failed(pull, error, now=now())
        else:
            due_at = now() + (timedelta() if more else timedelta(seconds=source.poll_seconds))
            succeeded(pull, brought=brought, due_at=due_at, warning="; ".join(dict.fromkeys(warnings)), now=now())
        if pull.error:
            log.warning("not polled", tenant=source.tenant.name, source=source.name, reason=pull.error[:200])
        return brought


def _page(
    source: Source,
    pull: Pull,
    module: ModuleType,
    warnings: list[str],
    *,
    now: Callable[[], datetime],
    call: outbound.Call,
) -> tuple[int, bool]:
    """Ask once, take what comes, then keep the place. Returns how many were new, and whether to ask again at once."""
    state = module.poll_state(pull.state, now=now())
    request = with_key(module.poll_request(state, source.poll_url), source)
    answer = call(request, allow_private=source.allow_private, bounds=BOUNDS)
    body = expected_ok(answer, request.host, now=now()).body
    polled = read_by_format(source, lambda: module.poll_response(body, state))
    state, new, settled = polled.state, 0, 0
    for delivery in polled.deliveries:
        taken = _taken(source, module, delivery, now=now(), call=call)
        new += sum(not one.repeated for one in taken.appended.values())
        refused = _answerable(source, taken.refused, warnings)
        settled += len(taken.appended) + len(refused)
        if hasattr(module, "poll_settled"):
            state = module.poll_settled(state, list(taken.appended), refused)
    pull.state = state
    keep(pull, "state")  # strictly after what it stands for is durable
    # What is left where it was comes again with every request: asking at once would go round in a circle.
    return new, polled.more and settled > 0


def _taken(source: Source, module: ModuleType, delivery: Delivery, *, now: datetime, call: outbound.Call) -> Taken:
    """Raises Refused when nothing in it is good: then the place is kept, and somebody has to look."""
    if not hasattr(module, "receive_polled"):
        return ingest(source.tenant.name, source.name, delivery, now=now, call=call)
    try:
        received = read_by_format(source, lambda: module.receive_polled(delivery, sender_of(source)))
    except Refused as refused:
        refuse(source, refused, now=now)
        raise
    return take(source, received, now=now)


def _answerable(source: Source, refused: Mapping[str, Refused], warnings: list[str]) -> dict[str, Refused]:
    """Those refusals that stay so. A SET whose key we could not look up is left with its sender, neither taken nor
    refused.
    """
    unread = any(isinstance(one, UnknownKid) for one in refused.values()) and bool(
        Pull.objects.filter(tenant_id=source.tenant_id, source=source, kind=Pull.Kind.KEYS).exclude(error="").exists()
    )
    stay = {name: one for name, one in refused.items() if not (unread and isinstance(one, UnknownKid))}
    if len(stay) < len(refused):
        warnings.append("some are left with their sender until its key set can be read")
    if stay:
        warnings.append(f"refused, for example: {next(iter(stay.values()))}"[:500])
    return stay


def _close(
    source: Source,
    pull: Pull,
    module: ModuleType,
    warnings: list[str],
    *,
    now: Callable[[], datetime],
    call: outbound.Call,
) -> None:
    """Say what is still to be said: acknowledgements are not left for the next round, unless they are not wanted so."""
    request = module.poll_closing(pull.state, source.poll_url) if hasattr(module, "poll_closing") else None
    if request is None:
        return
    answer = call(with_key(request, source), allow_private=source.allow_private, bounds=BOUNDS)
    if answer.status in (200, 202, 204):
        pull.state = {}
        keep(pull, "state")
    else:
        warnings.append(
            f"acknowledgements go with the next request: {request.host} answered {answer.status} to those by themselves"
        )
