"""Repeats: the same thing charged again, and loops of the same call. One function for the rules and for C13 and I1.

Of payments and purchases, a repeat is a second taking for one idempotency key (the provider's fault: it should have been
one), or for one order, invoice, name or subscription period under another key (ours), however long after; for any other
thing, within AGAIN. Metered calls repeat by nature: of those only loops are found (core.acts.loop).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from auditlog.core.acts.call import said, snake, stated_args
from auditlog.core.acts.loop import COUNTED, Loop, loops
from auditlog.core.acts.taking import CALL_LIKE, Taking, takings, told_apart
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import asked_for, assent_to, is_acting_side
from auditlog.core.chain.intent import Stated, stated_intent
from auditlog.core.chain.record import Record
from auditlog.core.money.join import MANY
from auditlog.core.money.limits import Spent
from auditlog.core.names import domain

AGAIN = timedelta(hours=1)  # policy: within it, the same thing bought again for the same amount is a repeat
TERM = timedelta(days=300)  # a name that is registered again after it is another year's

# What a principal's acts must hold for all of this, and for what a task has cost so far.
TYPES = frozenset(
    "action.performed account.created deployment.completed dispute.funds_withdrawn dispute.funds_reinstated "
    "domain.registered domain.renewed domain.transferred domain.deleted invoice.issued payment.authorized payment.captured payment.settled payment.refunded resource.provisioned "
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
    loops: tuple[Loop, ...]

    def __post_init__(self) -> None:
        by_event = {act.event_id: taking for taking in self.takings for act in taking.acts}
        object.__setattr__(self, "by_event", by_event)
        object.__setattr__(self, "_repeat", {id(repeat.taking): repeat for repeat in reversed(self.repeats)})
        object.__setattr__(
            self,
            "_loop",
            {
                act.event_id: (loop, n if loop.is_repeat(n) else 0)
                for loop in self.loops
                for n, act in enumerate(loop.acts)
            },
        )

    def taking_of(self, act: Act) -> Taking | None:
        return self.by_event.get(act.event_id)

    def repeat_of(self, act: Act) -> Repeat | None:
        taking = self.taking_of(act)
        return self._repeat.get(id(taking)) if taking is not None else None

    def loop_of(self, act: Act) -> tuple[Loop, int] | None:
        """The loop that the act's charge is in, and its place there; 0 of a call that others repeat, and none before it."""
        taking = self.taking_of(act)
        told = [act, *(taking.acts if taking else ())]
        return next((self._loop[each.event_id] for each in told if each.event_id in self._loop), None)


def is_of_past(act: Act) -> bool:
    """Whether it can be part of what a principal did, as far as money goes."""
    return act.type in TYPES and act.environment == "live"


def past_of(record: Record, principal: str, acts: Iterable[Act]) -> Past:
    """The past of a principal as this record knows it; worked out once."""
    found = record.memory.get(("past", principal))
    if found is None:
        found = past(acts, record.spending, lambda act: asked_for(act, record))
        again = tuple(each for each in found.repeats if not _is_wanted_again(each, record))
        if len(again) < len(found.repeats):
            found = replace(found, repeats=again)
        record.memory["past", principal] = found
    return found


def _is_wanted_again(repeat: Repeat, record: Record) -> bool:
    """Whether a human said yes to just this one after the first was taken: then it is a second wish and no repeat. One key
    that was charged twice is the provider's all the same.
    """
    if repeat.kind == "key":
        return False
    assents = (assent_to(act, record) for act in repeat.taking.acts)
    return any(yes is not None and yes.names_it and yes.approval.at > repeat.first.at for yes in assents)


def past(
    acts: Iterable[Act],
    spending: Sequence[Spent] = (),
    asked: Callable[[Act], Stated | None] = stated_intent,
) -> Past:
    """`asked`: the intent that an act answers to."""
    acts = [act for act in acts if is_of_past(act)]
    mine = {act.event_id for act in acts}
    told = takings(acts, [s for s in spending if s.event_id in mine or not mine.isdisjoint(s.joined)])
    return Past(tuple(told), tuple(repeats(told, acts, asked)), tuple(loops(acts, told)))


# --- the same thing charged again -------------------------------------------------------------------------------------

_ORDERS = frozenset("booking cart checkout order purchase_order reservation".split())
_INVOICES = frozenset(["bill", "invoice"])
# Who is paid, not what for: the same sum to the same shop twice is an ordinary morning.
_PAYEES = frozenset(
    "account beneficiary customer merchant payee provider recipient seller shop store user vendor".split()
)
_ORDER_ARGS = {
    **dict.fromkeys("order order_id order_number booking_id checkout_id cart_id reservation_id".split(), "order"),
    **dict.fromkeys("invoice invoice_id invoice_number bill_id".split(), "invoice"),
}
_STEPS = frozenset("cancel extend refund release renew renewal".split())


def repeats(told: Sequence[Taking], acts: Sequence[Act], asked: Callable[[Act], Stated | None]) -> list[Repeat]:
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
                and (again := _repeats((kind, *rest), taking, before, totals.get((kind, *rest)), ended, asked))
                is not None
            ):
                best = again
            before.append(taking)
        if best is not None:
            found.append(best)
    return found


def _repeats(
    of: tuple[str, ...],
    taking: Taking,
    before: Sequence[Taking],
    total: int | None,
    ended: dict[str, list[datetime]],
    asked: Callable[[Act], Stated | None],
) -> Repeat | None:
    kind, thing = of[0], of[-1]
    standing = [each for each in before if told_apart(each, taking) and not each.is_given_back(taking.at)]
    if kind == "key":
        standing = [each for each in standing if not _of_another_thing(each, taking)] if len(before) < MANY else []
    elif kind == "invoice" and total is not None:
        # Parts of one bill are no repeat until they come to more than the bill.
        if sum(each.paid_minor for each in (*standing, taking)) <= total:
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
        if len(standing) < _wanted(taking, asked):
            return None
    if not standing:
        return None
    return Repeat(taking, standing[0], kind, thing, len(standing) + 1)


def things(taking: Taking) -> list[tuple[str, ...]]:
    """What it was taken for, by kind and where that means something, the strongest first. An order or a plan of one account
    is none of another's.
    """
    found: dict[tuple[str, ...], None] = {}
    for where, key in sorted(taking.keys):
        found["key", where, key] = None
    for act in taking.acts:
        found |= dict.fromkeys(_named_by(act))
        target = act.payload.action.target if act.payload.action else None
        kind, name = (target.type.lower(), target.id) if target else ("", "")
        money = act.payload.money
        subscription, period = getattr(money, "subscription", ""), getattr(money, "period", None)
        if subscription and period is not None:
            found["period", act.provider, str(period.begins), str(period.ends), subscription] = None
        if kind not in CALL_LIKE and name and "://" not in name and name not in taking.ids and period is None:
            found["target", act.provider, _account(act), act.verb, kind, name] = None
    for act in taking.beside:
        found |= dict.fromkeys(_named_by(act))
    order = ("key", "order", "invoice", "name", "period", "target")
    return sorted(found, key=lambda each: order.index(each[0]))


def _named_by(act: Act) -> list[tuple[str, ...]]:
    """The order, invoice or name that one statement says it was for."""
    found: list[tuple[str, ...]] = []
    target = act.payload.action.target if act.payload.action else None
    kind, name = (target.type.lower(), target.id) if target else ("", "")
    if act.verb.rpartition(".")[2].lower() not in _STEPS and act.type not in ("domain.renewed", "subscription.renewed"):
        if kind in _ORDERS and name:
            found.append(("order", act.provider, _account(act), name))
        if kind in _INVOICES and name:
            found.append(("invoice", act.provider, name))
        if act.type.startswith("payment.") and act.payload.money and act.payload.money.invoice:
            found.append(("invoice", act.provider, act.payload.money.invoice))
        for arg, value in stated_args(act).items():
            if (known := _ORDER_ARGS.get(snake(arg))) and isinstance(value, str | int) and value != "":
                account = () if known == "invoice" else (_account(act),)
                found.append((known, act.provider, *account, str(value)))
    if act.type == "domain.registered" and (registrable := _registrable(act.object)):
        found.append(("name", registrable))
    return found


def _account(act: Act) -> str:
    """Whose account at the seller it was done in, as far as that is said."""
    return act.account or (act.payload.money.payee if act.payload.money else "")


def _of_another_thing(one: Taking, other: Taking) -> bool:
    """Whether both say what they were taken for, and it is not the same: then their key was merely used twice."""
    left, right = _things_by_kind(one), _things_by_kind(other)
    if any(
        left[kind].isdisjoint(right[kind])
        for kind in ("order", "invoice", "name", "target")
        if left[kind] and right[kind]
    ):
        return True
    # One key for all of a batch: other arguments are other work, where nothing but the key says that it is the same.
    calls = [taking.first.payload.call for taking in (one, other)]
    return all(call is not None and call.args for call in calls) and said(one.first) != said(other.first)


def _things_by_kind(taking: Taking) -> dict[str, set[tuple[str, ...]]]:
    found: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for kind, *rest in things(taking):
        found[kind].add(tuple(rest))
    return found


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
    return left.operation == right.operation and said(one.first) == said(other.first)


def _says_retry(taking: Taking) -> bool:
    return any(act.payload.call is not None and (act.payload.call.attempt or 0) > 1 for act in taking.acts)


def _wanted(taking: Taking, asked: Callable[[Act], Stated | None]) -> int:
    """How many of one thing were asked for, 1 where nobody says."""
    stated = next((stated for act in taking.acts if (stated := asked(act)) is not None and not stated.by_actor), None)
    if stated is not None and stated.intent.quantity is not None:
        # Of several things asked for, each was wanted once at least: how many of this one is not said.
        return max(1, stated.intent.quantity - max(0, len(stated.intent.targets) - 1))
    kinds = {
        act.payload.action.target.type.lower()
        for act in taking.acts
        if act.payload.action and act.payload.action.target
    }
    return 2**31 if kinds & COUNTED else 1


def _invoice_totals(acts: Iterable[Act]) -> dict[tuple[str, ...], int]:
    """By invoice, what it was issued over, or what the acts came to that name it: the greater."""
    issued: dict[tuple[str, ...], int] = {}
    named: dict[tuple[str, ...], int] = {}
    for act in acts:
        for name in bill_names(act):
            key = ("invoice", act.provider, name)
            issued[key] = max(issued.get(key, 0), act.amount_minor or 0)
        money = act.payload.money
        if act.book == "incurred" and money is not None and money.invoice:
            key = ("invoice", act.provider, money.invoice)
            named[key] = named.get(key, 0) + (act.amount_minor or 0)
    return named | {key: max(total, named.get(key, 0)) for key, total in issued.items()}


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
