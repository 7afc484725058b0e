"""The reach of a stop: what a subject can still act with, which channel can stop each, and what happened since.

"No known channel" is an answer: what nobody can be told to stop is shown before the stop is pressed, not after.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from auditlog.core.amount import minor
from auditlog.core.chain.act import ACT_TYPES
from auditlog.core.errors import NotFound
from auditlog.core.holding import recoverable
from auditlog.core.wire.signal import KINDS, Subject
from auditlog.models import Event, Grant, Party, Receiver, Signal, Stop, Token
from auditlog.projection.generation import generation_of
from auditlog.reads.access import Viewer
from auditlog.reads.reach import Start, below

SHOWN = 200  # things of one kind that are listed; the rest are counted
# By these somebody says that the authority is over.
OVER = (
    "delegation.revoked", "token.revoked", "credential.revoked", "consent.withdrawn", "mandate.revoked", "payment.authority_ended",
    "session.ended", "subscription.ended", "action.denied", "token.exchange_failed",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that the subject can still act with. `issuer`: who issued it, of a token or grant."""

    kind: str  # grant | token | agent | credential | subscription | payment authority | account | ... | hold
    id: str
    provider: str = ""
    issuer: str = ""
    until: datetime | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A thing with the receivers that can stop it."""

    thing: Thing
    channels: tuple[Receiver, ...] = ()


@dataclass(frozen=True, slots=True)
class Reach:
    subject: Subject
    lines: tuple[Line, ...]
    more: int = 0  # things that are counted and not listed
    receivers: tuple[Receiver, ...] = ()  # that would be told

    @property
    def without_channel(self) -> list[Line]:
        return [line for line in self.lines if not line.channels]


def subject_of(viewer: Viewer, kind: str, key: str) -> Subject:
    """What is to be stopped, as the record knows it. Raises NotFound."""
    scope = {"tenant": viewer.tenant, "generation": generation_of(viewer.tenant)}
    found: Grant | Token | Party | Event | None = None
    if kind == "party":
        found = Party.objects.filter(**scope, key=key).first()
        subject = Subject(kind, key)
    elif kind == "grant":
        found = Grant.objects.filter(**scope, id=key).first()
        subject = Subject(
            kind, key, found.principal if found else "", _issuer(scope, found.leaf_index) if found else ""
        )
    elif kind == "token":
        found = Token.objects.filter(**scope, jti=key).first()
        subject = Subject(kind, key, found.subject if found else "", _issuer(scope, found.leaf_index) if found else "")
    elif kind == "session":
        found = Event.objects.filter(**scope, session=key).exclude(session="").order_by("-leaf_index").first()
        subject = Subject(kind, key, found.principal if found else "", found.issuer if found else "")
    else:
        raise NotFound(f"nothing of kind {kind!r} can be stopped; there are: {', '.join(KINDS)}")
    if found is None:
        raise NotFound(f"no {kind} {key!r} is on record")
    return subject


def _issuer(scope: dict[str, Any], leaf: int) -> str:
    return Event.objects.filter(**scope, leaf_index=leaf).values_list("issuer", flat=True).first() or ""


def reach_of(viewer: Viewer, subject: Subject, *, now: datetime) -> Reach:
    """What a stop of this subject is about, and who would be told."""
    things, more = _things(viewer, subject, now=now)
    receivers = list(
        Receiver.objects.filter(tenant=viewer.tenant).exclude(state=Receiver.State.DISABLED).order_by("name")
    )
    lines = tuple(Line(thing, tuple(r for r in receivers if can_stop(r, thing))) for thing in things)
    told = [r for r in receivers if hears_of(r, subject, lines)]
    return Reach(subject, lines, more, tuple(told))


def can_stop(receiver: Receiver, thing: Thing) -> bool:
    """Whether this receiver is a channel for this thing: by what it says that it can stop."""
    if receiver.issuer and thing.issuer and receiver.issuer != thing.issuer:
        return False
    if receiver.provider and thing.provider and receiver.provider != thing.provider:
        return False
    if receiver.kind == Receiver.Kind.REVOCATION:
        return thing.kind == "token"
    if receiver.kind == Receiver.Kind.STRIPE:
        return bool(stripe_call(thing))
    if receiver.kind == Receiver.Kind.CLOUDFLARE:
        return thing.kind == "credential" and thing.provider == (receiver.provider or "cloudflare")
    if receiver.provider and not thing.provider:
        return thing.kind in ("grant", "token", "agent", "session")  # what is used there, though it was not made there
    return thing.kind in ("grant", "token", "agent", "session", "hold") or bool(receiver.provider)


def hears_of(receiver: Receiver, subject: Subject, lines: Sequence[Line]) -> bool:
    """Whether it is told of the stop itself. Who takes events hears of every subject that is not another issuer's."""
    if receiver.kind in (Receiver.Kind.PUSH, Receiver.Kind.POLL, Receiver.Kind.WEBHOOK):
        issuers = {subject.issuer, subject.key.partition("|")[0] if subject.kind == "party" else ""} - {""}
        return (
            not receiver.issuer
            or not issuers
            or receiver.issuer in issuers
            or any(receiver in line.channels for line in lines)
        )
    return any(receiver in line.channels for line in lines)


def stripe_call(thing: Thing) -> str:
    """What Stripe can be asked to do about a thing, by its id: `card` freezes it, `intent` cancels the hold. "" nothing."""
    if thing.id.startswith("ic_"):
        return "card"
    return "intent" if thing.kind == "hold" and thing.id.startswith("pi_") else ""


def _things(viewer: Viewer, subject: Subject, *, now: datetime) -> tuple[list[Thing], int]:
    ask = below(viewer, _start(subject))
    at = {"now": now, "size": SHOWN + 1, "session": subject.key if subject.kind == "session" else ""}
    own = "agent" if subject.kind == "party" else subject.kind
    found: list[list[Thing]] = [
        [Thing(own, subject.key, "", subject.issuer or (subject.key.partition("|")[0] if own == "agent" else ""))] if own in ("agent", "session") else [],
        [Thing("grant", id, "", issuer, until, f"held by {actor}" if actor else "") for id, issuer, actor, until in ask.rows(_GRANTS, **at)],
        [Thing("token", jti, "", issuer, until, f"held by {actor}" if actor else "") for jti, issuer, actor, until in ask.rows(_TOKENS, **at)],
        [Thing("agent", actor, "", actor.partition("|")[0]) for (actor,) in ask.rows(_AGENTS, **at) if actor and actor != subject.key],
        [Thing(kind, id, provider, note=recoverable(kind, is_live=True)) for kind, id, provider in ask.rows(_HOLDINGS, **at)],
        [Thing("hold", charge, provider or rail, until=until, note=f"{minor(held)} {currency} in minor units, open")
         for charge, provider, rail, held, currency, until in ask.rows(_HOLDS, **at)],
    ]  # fmt: skip
    return [thing for some in found for thing in some[:SHOWN]], sum(max(0, len(some) - SHOWN) for some in found)


def _start(subject: Subject) -> Start:
    return Start(subject.kind, subject.key)


_GRANTS = """
    SELECT g.id, coalesce(e.issuer, ''), g.actor, g.expires_at FROM grants JOIN projection_grant g ON g.id = grants.id AND g.tenant_id = %(tenant)s AND g.generation = %(generation)s
    LEFT JOIN projection_event e ON e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = g.leaf_index
    WHERE g.revoked_at IS NULL AND (g.expires_at IS NULL OR g.expires_at > %(now)s) ORDER BY g.granted_at DESC, g.id LIMIT %(size)s
"""
_TOKENS = """
    SELECT t.jti, coalesce(e.issuer, ''), t.actor, t.expires_at FROM tokens JOIN projection_token t ON t.jti = tokens.jti AND t.tenant_id = %(tenant)s AND t.generation = %(generation)s
    LEFT JOIN projection_event e ON e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = t.leaf_index
    WHERE t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > %(now)s) ORDER BY t.issued_at DESC NULLS LAST, t.jti LIMIT %(size)s
"""
_AGENTS = """
    SELECT DISTINCT g.actor FROM grants JOIN projection_grant g ON g.id = grants.id AND g.tenant_id = %(tenant)s AND g.generation = %(generation)s
    WHERE g.revoked_at IS NULL ORDER BY 1 LIMIT %(size)s
"""
_HOLDINGS = """
    SELECT h.kind, h.id, h.provider FROM ({acts}) found
    JOIN projection_event e ON e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = found.leaf_index
    JOIN projection_holding h ON h.event_id = e.event_id AND h.tenant_id = %(tenant)s AND h.generation = %(generation)s
    WHERE h.how = 'created' AND (h.ended_at IS NULL OR h.ended_at < h.last_made_at) ORDER BY h.made_at DESC, h.id LIMIT %(size)s
"""
_HOLDS = """
    SELECT c.charge, c.provider, c.rail, c.held, c.currency, c.held_until FROM ({acts}) found
    JOIN projection_event e ON e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = found.leaf_index
    JOIN projection_charge c ON c.lead = e.event_id AND c.tenant_id = %(tenant)s AND c.generation = %(generation)s
    WHERE c.held > 0 AND c.held_from <= %(now)s AND (c.held_until IS NULL OR c.held_until > %(now)s) ORDER BY c.held_from DESC, c.charge LIMIT %(size)s
"""


# --- after it was pressed ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Became:
    """What is on record since the stop. Currencies are never added up."""

    escaped: int  # acts that took effect all the same
    spent: tuple[tuple[str, int], ...]  # (currency, minor units)
    last_at: datetime | None
    refused: int
    effective: dict[str, datetime] = field(
        default_factory=dict
    )  # by provider ("" of none): the first refusal or revocation


def became(viewer: Viewer, stop: Stop) -> Became:
    """What the subject did after the stop, by the acts' own times, and where it was seen to be over."""
    ask = below(viewer, Start(stop.kind, stop.key))
    at = {"since": stop.at, "acts": sorted(ACT_TYPES), "over": list(OVER)}
    [(escaped, last)] = ask.rows(_ESCAPED, **at)
    spent = [(currency, minor(amount)) for currency, amount in ask.rows(_ESCAPED_MONEY, **at)]
    seen = ask.rows(_SEEN, **at)
    return Became(
        escaped,
        tuple(spent),
        last,
        sum(count for _, _, count in seen),
        {provider: first for provider, first, _ in seen},
    )


_ESCAPED = """
    SELECT count(*), max(e.occurred_at) FROM ({acts}) found
    JOIN projection_event e ON e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = found.leaf_index WHERE e.type = ANY(%(acts)s) AND e.outcome IN ('success', 'pending') AND e.environment = 'live' AND e.occurred_at > %(since)s
"""
_ESCAPED_MONEY = """
    SELECT c.currency, sum(c.spent) FROM ({acts}) found
    JOIN projection_event e ON e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = found.leaf_index
    JOIN projection_charge c ON c.lead = e.event_id AND c.tenant_id = %(tenant)s AND c.generation = %(generation)s WHERE e.type = ANY(%(acts)s) AND e.outcome IN ('success', 'pending') AND e.environment = 'live' AND e.occurred_at > %(since)s AND c.has_spend GROUP BY 1 ORDER BY 1
"""
_SEEN = """
    SELECT e.provider, min(e.occurred_at), count(*) FROM ({acts}) found
    JOIN projection_event e ON e.tenant_id = %(tenant)s AND e.generation = %(generation)s AND e.leaf_index = found.leaf_index
    WHERE e.occurred_at > %(since)s AND (e.outcome = 'denied' OR e.type = ANY(%(over)s)) GROUP BY 1
"""


def was_effective(signal: Signal, seen: dict[str, datetime]) -> datetime | None:
    """When the record first showed that what this receiver can stop was stopped. A receiver of any provider: anywhere."""
    provider = signal.receiver.provider
    times = [at for name, at in seen.items() if not provider or name in ("", provider)]
    return min(times, default=None)
