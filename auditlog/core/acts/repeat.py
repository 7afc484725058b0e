"""Repeats: the same thing charged again, and loops of the same call. One function for the rules and for C13 and I1.

Of payments and purchases, a repeat is a second taking for one idempotency key (the provider's fault: it should have been
one), or for one order, invoice, name or subscription period under another key (ours), however long after; for any other
thing, within AGAIN. Metered calls repeat by nature: of those only loops are found, by a sequential test of how the calls
follow each other.

What nobody stated is unknown and never equal: calls without arguments are not the same call.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from math import log
from statistics import median

import msgspec
import rfc8785

from auditlog.core.acts.taking import CALL_LIKE, Taking, takes, takings, told_apart
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import is_acting_side
from auditlog.core.chain.intent import stated_intent
from auditlog.core.chain.record import Record
from auditlog.core.money.join import MANY
from auditlog.core.money.limits import Spent
from auditlog.core.names import domain

AGAIN = timedelta(hours=1)  # policy: within it, the same thing bought again for the same amount is a repeat
TERM = timedelta(days=300)  # a name that is registered again after it is another year's

# What a principal's acts must hold for all of this, and for what a task has cost so far.
TYPES = frozenset(
    "action.performed account.created deployment.completed domain.registered domain.renewed domain.transferred domain.deleted "
    "invoice.issued payment.authorized payment.captured payment.settled payment.refunded resource.provisioned "
    "resource.updated subscription.started subscription.changed subscription.renewed usage.metered".split()
)


@dataclass(frozen=True, slots=True)
class Repeat:
    """`taking` is for what `first` was taken for already. `kind`: key | order | invoice | name | period | target."""

    taking: Taking
    first: Taking
    kind: str
    thing: str  # what both were taken for, as the statements name it
    number: int  # 2 for the second

    @property
    def by_provider(self) -> bool:
        return self.kind == "key"

    @property
    def words(self) -> str:
        if self.kind == "key":
            return f"idempotency key {self.thing} was charged already"
        return f"{'' if self.kind in ('target', 'period') else self.kind + ' '}{self.thing} was paid for already"


def is_own_word(repeat: Repeat, record: Record) -> bool:
    """Whether only the acting side says that one of the two charges bore this key: whose fault a second charge is hangs on
    that, and nobody attests for himself.
    """
    return repeat.kind == "key" and not all(
        _is_attested(taking, repeat.thing, record) for taking in (repeat.first, repeat.taking)
    )


def _is_attested(taking: Taking, key: str, record: Record) -> bool:
    stating = [act for act in taking.acts if act.idempotency_key == key]
    return any(not is_acting_side(act.issuer, act, act.path, record.token_path(act.token)) for act in stating)


@dataclass(frozen=True)
class Past:
    """What one principal did, as far as money was taken for it."""

    takings: tuple[Taking, ...]
    repeats: tuple[Repeat, ...]  # in order of time
    loops: "tuple[Loop, ...]"

    def __post_init__(self) -> None:
        by_event = {act.event_id: taking for taking in self.takings for act in taking.acts}
        object.__setattr__(self, "by_event", by_event)
        object.__setattr__(self, "_repeat", {id(repeat.taking): repeat for repeat in reversed(self.repeats)})
        object.__setattr__(
            self, "_loop", {act.event_id: (loop, n) for loop in self.loops for n, act in enumerate(loop.acts)}
        )

    def taking_of(self, act: Act) -> Taking | None:
        return self.by_event.get(act.event_id)

    def repeat_of(self, act: Act) -> Repeat | None:
        taking = self.taking_of(act)
        return self._repeat.get(id(taking)) if taking is not None else None

    def loop_of(self, act: Act) -> "tuple[Loop, int] | None":
        """The loop that the act's charge is in, and its place there; 0 is the call that all others repeat."""
        taking = self.taking_of(act)
        told = [act, *(taking.acts if taking else ())]
        return next((self._loop[each.event_id] for each in told if each.event_id in self._loop), None)


def past_of(record: Record, principal: str, acts: Iterable[Act]) -> Past:
    """The past of a principal as this record knows it; worked out once."""
    found = record.memory.get(("past", principal))
    if found is None:
        found = record.memory["past", principal] = past(acts, record.spending)
    return found


def past(acts: Iterable[Act], spending: Sequence[Spent] = ()) -> Past:
    acts = [act for act in acts if act.type in TYPES and act.environment == "live"]
    mine = {act.event_id for act in acts}
    told = takings(acts, [s for s in spending if s.event_id in mine or not mine.isdisjoint(s.joined)])
    return Past(tuple(told), tuple(repeats(told, acts)), tuple(loops(acts, told)))


# --- the same thing charged again -------------------------------------------------------------------------------------

_ORDERS = frozenset("booking cart checkout order purchase_order reservation".split())
_INVOICES = frozenset(["bill", "invoice"])
# Who is paid, not what for: the same sum to the same shop twice is an ordinary morning.
_PAYEES = frozenset(
    "account beneficiary customer merchant payee provider recipient seller shop store user vendor".split()
)
_COUNTED = frozenset("license licence seat share ticket unit voucher".split())  # bought one by one, alike
_ORDER_ARGS = {
    **dict.fromkeys("order order_id order_number booking_id checkout_id cart_id reservation_id".split(), "order"),
    **dict.fromkeys("invoice invoice_id invoice_number bill_id".split(), "invoice"),
}
_STEPS = frozenset("cancel extend refund release renew renewal".split())


def repeats(told: Sequence[Taking], acts: Sequence[Act]) -> list[Repeat]:
    """Every taking that repeats an earlier one, in order of time; each once, by its strongest reason."""
    totals = _invoice_totals(acts)
    ended = _ended_names(acts)
    seen: dict[tuple[str, ...], list[Taking]] = {}
    found = []
    for taking in told:
        if taking.is_metered:
            continue
        best: Repeat | None = None
        for kind, *rest in things(taking):
            before = seen.setdefault((kind, *rest), [])
            if (
                best is None
                and (again := _repeats((kind, *rest), taking, before, totals.get((kind, *rest)), ended)) is not None
            ):
                best = again
            before.append(taking)
        if best is not None:
            found.append(best)
    return found


def _repeats(
    of: tuple[str, ...], taking: Taking, before: Sequence[Taking], total: int | None, ended: dict[str, list[datetime]]
) -> Repeat | None:
    kind, thing = of[0], of[-1]
    standing = [each for each in before if told_apart(each, taking) and not each.is_given_back(taking.at)]
    if kind == "key":
        standing = [each for each in standing if not _of_another_thing(each, taking)] if len(before) < MANY else []
    elif kind == "invoice" and total is not None:
        # Parts of one bill are no repeat until they come to more than the bill.
        if sum(each.amount_minor for each in (*standing, taking)) <= total:
            return None
    else:
        standing = [
            each for each in standing if (each.amount_minor, each.currency) == (taking.amount_minor, taking.currency)
        ]
    if kind == "name":
        ends = ended.get(thing, [])
        standing = [e for e in standing if taking.at - e.at < TERM and not any(e.at <= at <= taking.at for at in ends)]
    if kind == "target":
        standing = [each for each in standing if _like(each, taking)]
        # Who was paid says not what for: then only a sender who calls it a second try says that it is the same.
        is_near = taking.at - standing[-1].at <= AGAIN and of[-2] not in _PAYEES if standing else False
        if not standing or not (is_near or _says_retry(taking)):
            return None
        if len(standing) < _wanted(taking):
            return None
    if not standing:
        return None
    return Repeat(taking, standing[0], kind, thing, len(standing) + 1)


def things(taking: Taking) -> list[tuple[str, ...]]:
    """What it was taken for, by kind and where that means something, the strongest first."""
    found: dict[tuple[str, ...], None] = {}
    for where, key in sorted(taking.keys):
        found["key", where, key] = None
    for act in taking.acts:
        target = act.payload.action.target if act.payload.action else None
        kind, name = (target.type.lower(), target.id) if target else ("", "")
        renews = act.verb.rpartition(".")[2].lower() in _STEPS or act.type in ("domain.renewed", "subscription.renewed")
        if not renews:
            if kind in _ORDERS and name:
                found["order", act.provider, name] = None
            if kind in _INVOICES and name:
                found["invoice", act.provider, name] = None
            if act.type.startswith("payment.") and act.payload.money and act.payload.money.invoice:
                found["invoice", act.provider, act.payload.money.invoice] = None
            for arg, value in _args(act).items():
                if (known := _ORDER_ARGS.get(_snake(arg))) and isinstance(value, str | int) and value != "":
                    found[known, act.provider, str(value)] = None
        if act.type == "domain.registered" and (registrable := _registrable(act.object)):
            found["name", registrable] = None
        money = act.payload.money
        subscription, period = getattr(money, "subscription", ""), getattr(money, "period", None)
        if subscription and period is not None:
            found["period", act.provider, str(period.begins), str(period.ends), subscription] = None
        if kind not in CALL_LIKE and name and "://" not in name and name not in taking.ids and period is None:
            found["target", act.provider, act.verb, kind, name] = None
    order = ("key", "order", "invoice", "name", "period", "target")
    return sorted(found, key=lambda each: order.index(each[0]))


def _of_another_thing(one: Taking, other: Taking) -> bool:
    """Whether both say what they were taken for, and it is not the same: then their key was merely used twice."""
    left = {each[0]: each for each in things(one) if each[0] not in ("key", "period")}
    return any(
        left.get(each[0], each) != each for each in things(other) if each[0] in ("order", "invoice", "name", "target")
    )


def _like(one: Taking, other: Taking) -> bool:
    """Whether nothing that both state differs."""
    left, right = one.first.payload.call, other.first.payload.call
    if left is None or right is None or not left.args or not right.args:
        return (
            left is None
            or right is None
            or not (left.args_digest and right.args_digest)
            or left.args_digest == right.args_digest
        )
    return left.operation == right.operation and _said(one.first) == _said(other.first)


def _says_retry(taking: Taking) -> bool:
    return any(act.payload.call is not None and (act.payload.call.attempt or 0) > 1 for act in taking.acts)


def _wanted(taking: Taking) -> int:
    """How many of one thing were asked for, 1 where nobody says."""
    stated = next(
        (stated for act in taking.acts if (stated := stated_intent(act)) is not None and not stated.by_actor), None
    )
    if stated is not None and stated.intent.quantity is not None:
        # Of several things asked for, each was wanted once at least: how many of this one is not said.
        return max(1, stated.intent.quantity - max(0, len(stated.intent.targets) - 1))
    kinds = {
        act.payload.action.target.type.lower()
        for act in taking.acts
        if act.payload.action and act.payload.action.target
    }
    return 2**31 if kinds & _COUNTED else 1


def _invoice_totals(acts: Iterable[Act]) -> dict[tuple[str, ...], int]:
    """By invoice, what it was issued over."""
    found: dict[tuple[str, ...], int] = {}
    for act in acts:
        for name in bill_names(act):
            key = ("invoice", act.provider, name)
            found[key] = max(found.get(key, 0), act.amount_minor or 0)
    return found


def bill_names(act: Act) -> set[str]:
    """What an invoice goes by that this event issues over an amount."""
    if act.type != "invoice.issued" or act.amount_minor is None or act.outcome != "success":
        return set()
    money = act.payload.money
    return {money.invoice if money else "", act.target} - {""}


def _ended_names(acts: Iterable[Act]) -> dict[str, list[datetime]]:
    found: dict[str, list[datetime]] = {}
    for act in acts:
        if name := ended_name(act):
            found.setdefault(name, []).append(act.occurred_at)
    return found


def ended_name(act: Act) -> str:
    """The name that this event ends."""
    is_end = act.type in ("domain.deleted", "domain.transferred") and act.outcome == "success"
    return _registrable(act.object) if is_end else ""


def _registrable(name: str) -> str:
    try:
        return domain.parse(name).registrable
    except ValueError:
        return ""


# --- the same call ----------------------------------------------------------------------------------------------------

LOOP_TYPES = frozenset(
    {"usage.metered", "payment.captured", "payment.authorized", "action.performed", "resource.provisioned"}
)
# Benign base rate: in 1,164 calls of 200 ordinary agent sessions no call came three times in a row, so a repeat is
# well under one call in twenty (tau-bench, the development data of the detectors).
REPEAT_HEALTHY, REPEAT_LOOP = 0.05, 0.9
ALARM = log(1e5)
ALARM_OVER_INTENT = log(1e3)
FORGET = timedelta(hours=6)
CYCLE = 4
SCHEDULE = timedelta(minutes=10)  # evenly spaced at least so far apart: a clock calls, and no loop
EVEN, EVEN_SHARE = 0.1, 0.8  # how far from the beat, and how many of the calls must keep it

# What changes from try to try of one thing and says nothing about the thing.
_NOISE = frozenset(
    "attempt attempts attempt_number correlation_id idempotency_key nonce request_id retries retry retry_count span span_id "
    "tool_call_id trace trace_id traceparent".split()
)
# Whose turn it is, not what is done: noise where what is left still names the thing.
_CONTEXT = frozenset(
    "agent_id conversation_id run_id session_id step step_id subtask_id task_id thread_id turn turn_id worker_id".split()
)
_CLOCK = frozenset(
    "at client_time created_at current_time issued_at now requested_at sent_at time timestamp ts".split()
)
_NOW = timedelta(minutes=10)
# What a meter of a thing that simply runs counts in.
_MEASURES = frozenset(
    "bytes gb gib gibibytes hours kb kwh mb minutes quantity seconds units usage usage_quantity vcpu_hours".split()
)


@dataclass(eq=False)
class Loop:
    """Calls of one kind that follow each other closely enough, in order of time."""

    print_: str
    acts: list[Act] = field(default_factory=list)
    evidence: float = 0.0
    peak: float = 0.0

    @property
    def is_metered(self) -> bool:
        return all(act.type == "usage.metered" for act in self.acts)

    @property
    def currency(self) -> str:
        return self.acts[0].currency

    @property
    def spent_minor(self) -> int:
        return sum(act.exact_minor or 0 for act in self.acts if act.currency == self.currency)

    @property
    def allowed_minor(self) -> int | None:
        """What the task was to cost, by whoever stated it."""
        stated = stated_intent(self.acts[0])
        price = stated.intent if stated else None
        if price is None or (price.currency and price.currency.upper() != self.currency):
            return None
        return price.max_price_minor

    @property
    def is_over_intent(self) -> bool:
        return self.allowed_minor is not None and self.spent_minor > self.allowed_minor

    @property
    def is_alarming(self) -> bool:
        if self.peak < (ALARM_OVER_INTENT if self.is_over_intent else ALARM):
            return False
        stated = stated_intent(self.acts[0])
        wanted = stated.intent.quantity if stated and not stated.by_actor else None
        if wanted is not None and len(self.acts) <= wanted and not self.is_over_intent:
            return False
        return not is_scheduled(self.acts)


def loops(acts: Iterable[Act], told: Sequence[Taking]) -> list[Loop]:
    """Runs of the same call that no ordinary session shows."""
    calls = sorted(_charged_once(acts, told), key=lambda act: (act.occurred_at, act.leaf_index))
    stable = _stable_keys(acts)
    running: dict[str, Loop] = {}
    recent: dict[str, list[str]] = {}
    done: list[Loop] = []
    for act in calls:
        print_ = fingerprint(act, keyed=act.idempotency_key in stable)
        if print_ is None:
            continue
        run = running.get(print_)
        if run is not None and act.occurred_at - run.acts[-1].occurred_at > FORGET:
            done.append(run)
            run = None
        last = recent.setdefault(act.provider, [])
        if run is None:
            running[print_] = Loop(print_, [act])
        else:
            repeat = print_ in last[-CYCLE:]
            run.evidence = max(0.0, run.evidence + _weight(repeat))
            run.peak = max(run.peak, run.evidence)
            run.acts.append(act)
        if print_ in last:
            last.remove(print_)
        last.append(print_)
        del last[:-16]
    return [run for run in (*done, *running.values()) if run.is_alarming]


def _charged_once(acts: Iterable[Act], told: Sequence[Taking]) -> Iterable[Act]:
    """Calls that cost something, one a charge: a retry under the same idempotency key is charged once by design."""
    place = {act.event_id: n for n, taking in enumerate(told) for act in taking.acts}
    seen: set[tuple] = set()
    for act in sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index)):
        if act.type not in LOOP_TYPES or not act.spends or act.payload.call is None or not act.operation:
            continue
        key = (
            (act.rail, act.charge)
            if act.charge
            else ("taking", place[act.event_id])
            if takes(act)
            else ("hold", act.idempotency_key or act.event_id)
        )
        if key not in seen and ("taking", place.get(act.event_id)) not in seen:
            seen |= {key, ("taking", place[act.event_id])} if act.event_id in place else {key}
            yield act


def _stable_keys(acts: Iterable[Act]) -> frozenset[str]:
    """Idempotency keys that were sent on two tries: such a key is the item's, and another key another item."""
    tries: dict[str, set[tuple[int | None, datetime]]] = {}
    for act in acts:
        if act.idempotency_key and act.payload.call is not None and act.payload.call.attempt is not None:
            tries.setdefault(act.idempotency_key, set()).add((act.payload.call.attempt, act.occurred_at))
    return frozenset(key for key, many in tries.items() if len({attempt for attempt, _ in many}) > 1)


def _weight(repeat: bool) -> float:
    if repeat:
        return log(REPEAT_LOOP / REPEAT_HEALTHY)
    return log((1 - REPEAT_LOOP) / (1 - REPEAT_HEALTHY))


def fingerprint(act: Act, *, keyed: bool = False) -> str | None:
    """What was called, with what, on what. None where nobody stated the arguments: such calls are not known to be the same."""
    body = called(act)
    return (
        None if body is None else sha256(rfc8785.dumps([*body, act.idempotency_key if keyed else ""])).hexdigest()[:32]
    )


def called(act: Act) -> list[str | dict[str, str]] | None:
    """What a fingerprint is made of; the arguments in the order of their names."""
    call = act.payload.call
    if call is None or not (call.args or call.args_digest):
        return None
    return [act.provider, call.operation, _thing(act), _said(act), "" if call.args else call.args_digest]


def _thing(act: Act) -> str:
    """What the call was done to, where that names a thing and not the call itself."""
    target = act.payload.action.target if act.payload.action else None
    if target is None or not target.id or target.type.lower() in ("call", "charge", "payment", "request", "invocation"):
        return ""
    mine = {act.charge, act.idempotency_key, act.request_id} - {""}
    return "" if target.id in mine else f"{target.type} {target.id}"


def _said(act: Act) -> dict[str, str]:
    """The stated arguments, as text, without the noise of trying."""
    mine = {act.charge, act.request_id, act.txn, act.payload.trace_id} - {""}
    kept = {name: value for name, value in _args(act).items() if not _is_noise(name, value, act, mine)}
    content = {name: value for name, value in kept.items() if _snake(name) not in _CONTEXT}
    # Without its context, what is left must still name the thing: several arguments, or one and what it was done to.
    names_it = len(content) > 1 or (content and _thing(act))
    return {name: _text(value, act, mine) for name, value in sorted((content if names_it else kept).items())}


def _args(act: Act) -> dict[str, object]:
    call = act.payload.call
    return {name: msgspec.json.decode(value) for name, value in (call.args or {}).items()} if call else {}


def _is_noise(name: str, value: object, act: Act, mine: set[str]) -> bool:
    snake = _snake(name)
    if snake in _NOISE or (isinstance(value, str) and value in mine):
        return True
    return snake in _CLOCK and _is_now(value, act.occurred_at)


def _text(value: object, act: Act, mine: set[str]) -> str:
    def strip(inner):
        if isinstance(inner, dict):
            return {name: strip(each) for name, each in sorted(inner.items()) if not _is_noise(name, each, act, mine)}
        return [strip(each) for each in inner] if isinstance(inner, list) else inner

    return msgspec.json.encode(strip(value)).decode()


def _is_now(value: object, at: datetime) -> bool:
    """Whether this is the time of the call, in seconds, milliseconds or as text; or a counter no clock ever showed."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int | float):
        if 0 <= value < 1e8:
            return True
        seconds = value / 1000 if value > 1e11 else value
        return abs(seconds - at.timestamp()) <= _NOW.total_seconds()
    if isinstance(value, str):
        try:
            told = datetime.fromisoformat(value)
        except ValueError:
            return False
        return abs((told if told.tzinfo else told.replace(tzinfo=UTC)) - at) <= _NOW
    return False


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower().replace("-", "_")


def is_scheduled(acts: Sequence[Act]) -> bool:
    """Whether a clock made these: evenly spaced and far apart; or readings of a running thing, which no call asks for."""
    return _is_even(acts, SCHEDULE) or (
        all(_is_reading(act) for act in acts) and (_is_even(acts, timedelta(0)) or all(_measures(act) for act in acts))
    )


def _is_reading(act: Act) -> bool:
    """A meter's line about a thing, with nothing in it that a call has: no try, no key, no request."""
    call = act.payload.call
    names_call = act.idempotency_key or act.request_id or (call is not None and call.attempt is not None)
    asks = act.payload.actor is not None and not _measures(act)
    return act.type == "usage.metered" and bool(_thing(act)) and not names_call and not asks


def _measures(act: Act) -> bool:
    words = {_snake(name) for name in _args(act)} | set(re.split(r"[^a-z]+", act.operation.lower()))
    return not words.isdisjoint(_MEASURES)


def _is_even(acts: Sequence[Act], at_least: timedelta) -> bool:
    gaps = [(after.occurred_at - before.occurred_at).total_seconds() for before, after in pairwise(acts)]
    gaps = [gap for gap in gaps if gap > 0]
    if len(gaps) < 3 or len(gaps) < len(acts) // 2:
        return False
    beat = median(gaps)
    if beat < at_least.total_seconds():
        return False
    # A reading that is missing makes a gap of several beats.
    kept = sum(abs(gap - max(1, round(gap / beat)) * beat) <= EVEN * beat for gap in gaps)
    return kept >= EVEN_SHARE * len(gaps)
