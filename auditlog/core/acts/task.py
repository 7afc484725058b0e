"""A task: what was done, bought and spent so far under one stated intent, in order of time.

A task is everything under the grant that states the intent, through whichever sub-agent; of an intent that acts carry
themselves, everything that carries it. `task` on acts under the stating grant itself narrows it; what a sub-agent calls
its own task is part of its giver's. The price is for the whole task, or for each interval that the intent names.

What a human approved up to a price is held against that price, and counts in no wider one: it was said later and closer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from auditlog.core.acts.repeat import Past, past_of
from auditlog.core.acts.taking import Taking
from auditlog.core.chain.act import Act
from auditlog.core.chain.gates import Assent, asked_for, assent_to, assent_to_task
from auditlog.core.chain.intent import Stated, is_listed
from auditlog.core.chain.record import Record
from auditlog.core.event import Intent
from auditlog.core.money.limits import Spent
from auditlog.core.money.money import CREDIT_RAIL, amount_text, interval_start

_Key = tuple[str, ...]


class Cost(NamedTuple):
    """What the task had cost with one act, against what it was to cost. Minor units of `currency`."""

    max_minor: int
    currency: str
    before_minor: int
    own_minor: int
    over_minor: int  # the act's own part above the price; 0: within it
    first: bool  # whether this act passed the price
    crossed_by: str  # event id of the act that did; "" for none so far
    unknown: str = ""  # the currency that nobody gave a rate for, where it could decide
    asked: str = "asked for"  # how the price was said: asked for, or approved
    doubt: str = ""  # why it is not known whether that is passed

    @property
    def is_over(self) -> bool:
        return self.over_minor > 0

    @property
    def words(self) -> str:
        total = amount_text(self.before_minor + self.own_minor, self.currency)
        if not self.max_minor:
            return f"nothing was to be paid for it, {total} was taken"
        if not self.before_minor:
            return f"{self.said}, {total} was taken"
        return f"{self.said}, and with this the task has cost {total}"

    @property
    def said(self) -> str:
        return f"at most {amount_text(self.max_minor, self.currency)} was {self.asked}"


class Count(NamedTuple):
    """How many things the task had bought with one act, and how many were asked for."""

    wanted: int
    number: int

    @property
    def is_over(self) -> bool:
        return self.number > self.wanted


@dataclass
class Task:
    """Everything under one statement of an intent, in one period of its price."""

    key: _Key
    stated: Stated
    since: datetime | None
    costs: dict[str, Cost] = field(default_factory=dict)  # by event id
    counts: dict[str, Count] = field(default_factory=dict)
    priced: list[Taking] = field(default_factory=list)  # what passed the price, or came after
    bought: list[Taking] = field(default_factory=list)  # things bought, in order
    takings: list[Taking] = field(default_factory=list)  # all that has a cost here, in order
    paying: list[Taking] = field(default_factory=list)  # payments of what passed the price, counted there

    @property
    def over_minor(self) -> int:
        return sum(self.costs[taking.first.event_id].over_minor for taking in self.priced)


@dataclass(frozen=True)
class Tasks:
    tasks: tuple[Task, ...]
    of_cost: dict[str, Task]  # by event id
    of_count: dict[str, Task]

    def cost_of(self, act: Act) -> Cost | None:
        task = self.of_cost.get(act.event_id)
        return task.costs[act.event_id] if task else None

    def count_of(self, act: Act) -> Count | None:
        task = self.of_count.get(act.event_id)
        return task.counts[act.event_id] if task else None


def tasks_of(record: Record, principal: str, acts: Iterable[Act]) -> Tasks:
    """The tasks of a principal as this record knows them; worked out once."""
    found = record.memory.get(("tasks", principal))
    if found is None:
        found = record.memory["tasks", principal] = tasks(past_of(record, principal, acts), record)
    return found


def tasks(past: Past, record: Record) -> Tasks:
    """Fold takings, which are in order of time, into the tasks they belong to.

    Money is what the spend function says was kept of each; what one act took alone counts in full at its own time, whatever
    came back later. Money of the task that no act here tells of counts by its grants.
    """
    found: dict[_Key, Task] = {}
    sums: dict[_Key, dict[str, int]] = {}
    told = {event_id for taking in past.takings for act in taking.acts for event_id in (act.event_id,)}
    others = [
        s
        for s in record.spending
        if s.spent_minor > 0 and s.rail != CREDIT_RAIL and s.event_id not in told and told.isdisjoint(s.joined)
    ]
    states: dict[str, Stated] = {}
    rows: list[tuple[tuple[datetime, int], Taking | Spent, Stated, _Key]] = []
    together: dict[tuple[datetime, int], int] = {}  # by place, what the approvals of its task came to by then
    assents = {taking.place: _assents(taking, record) for taking in past.takings}
    for taking in past.takings:
        lead, (own, of_task) = _lead(taking), assents[taking.place]
        stated = asked_for(lead, record)
        if stated is not None and stated.grant:
            states[stated.grant] = stated
        # The price that was said closest to it is the one it is held against, and no wider one counts it.
        if own is not None and own.max_minor is not None:
            # A digest is of one act: what has the same one is a second act, and no more of the first.
            of = taking.first.event_id if own.approval.over else ""
            rows.append((taking.place, taking, _approved(own), ("", "approval", own.approval.event_id, of)))
        elif of_task is not None and of_task.max_minor is not None:
            key = ("", "approved", _lead(taking).task)
            rows.append((taking.place, taking, _approved(of_task), key))
            together[taking.place] = of_task.together_minor or 0
        elif stated is not None:
            rows.append((taking.place, taking, stated, _key(lead, stated)))
    for spent in others:
        for grant in spent.grants & states.keys():
            rows.append(((spent.at, spent.leaf_index), spent, states[grant], (grant, "")))
    payments: list[tuple[Task, Taking]] = []
    for (at, _), row, stated, key in sorted(rows, key=lambda each: each[0]):
        since = _since(stated, at)
        task = found.setdefault((*key, str(since)), Task((*key, str(since or "")), stated, since))
        totals = sums.setdefault(task.key, {})
        if isinstance(row, Taking) and row.is_within:
            payments.append((task, row))
        elif isinstance(row, Taking):
            _price(task, row, stated, totals, together.get(row.place, 0))
            totals[row.currency] = totals.get(row.currency, 0) + row.sure_minor
        else:
            totals[row.currency] = totals.get(row.currency, 0) + row.spent_minor
    for task, payment in payments:
        _pay(task, payment)
    counted: dict[_Key, Task] = {}
    for taking in past.takings:
        if taking.is_within:
            continue
        lead = _lead(taking)
        stated = asked_for(lead, record)
        if stated is not None and stated.intent.quantity is not None and (kind := _kind_bought(taking, stated)):
            if taking.is_perhaps_another:
                continue
            key = (*_key(lead, stated), kind)
            is_judged = not any(
                yes is not None and yes.names_it and yes.approval.event_id != stated.event_id
                for yes in assents[taking.place]
            )
            _count(counted.setdefault(key, Task(key, stated, None)), taking, stated, is_judged=is_judged)
    all_ = (*found.values(), *counted.values())
    return Tasks(
        all_,
        {event_id: task for task in found.values() for event_id in task.costs},
        {event_id: task for task in counted.values() for event_id in task.counts},
    )


def _assents(taking: Taking, record: Record) -> tuple[Assent | None, Assent | None]:
    """What humans said yes to of this taking: of the act itself, by whichever statement of it, and of its task."""
    own = next((yes for act in taking.acts if (yes := assent_to(act, record)) is not None), None)
    of_task = next((yes for act in taking.acts if (yes := assent_to_task(act, record)) is not None), None)
    return own, of_task


def _approved(yes: Assent) -> Stated:
    approval = yes.approval
    asked = Intent(max_price_minor=yes.max_minor, currency=yes.currency or None, interval=approval.interval)
    return Stated(asked, False, None, approval.leaf_index, approval.event_id, by_approval=True)


def _lead(taking: Taking) -> Act:
    """The statement that answers for a taking: the first that leads to a grant; a payment system's word names none."""
    return next((act for act in taking.acts if act.path.grants), taking.first)


def _key(act: Act, stated: Stated) -> _Key:
    if stated.by_approval:  # each yes adds to those before it
        return ("", "approved", act.task or act.request_id)
    if stated.grant is not None:
        direct = bool(act.path.grants) and act.path.grants[-1].id == stated.grant
        return (stated.grant, act.task if direct else "")
    said = msgspec.json.encode(stated.intent).decode()
    return ("", act.task or act.session or act.txn or act.via_grant or act.grant or act.event_id, said)


def _since(stated: Stated, at: datetime) -> datetime | None:
    interval = stated.intent.interval
    return interval_start(at.astimezone(UTC), interval) if interval else None


def _price(task: Task, taking: Taking, stated: Stated, totals: Mapping[str, int], together: int) -> None:
    intent = stated.intent
    alone = min(taking.amount_minor, taking.line_minor)  # a bill's payment has what its acts do not
    net = taking.sure_minor  # what is perhaps another statement's money convicts nobody
    if intent.max_price_minor is not None:
        asked = (intent.currency or taking.currency).upper()
        # A maximum of nothing is passed by anything, in whatever money.
        currency = taking.currency if intent.max_price_minor == 0 else asked
        before = totals.get(currency, 0)
        own = (
            0
            if taking.currency != currency
            else alone
            if alone > intent.max_price_minor and not taking.is_perhaps_another
            else net
        )
        most = max(intent.max_price_minor, together)
        over = max(0, min(own, before + own - most))
        doubt = (
            f"{amount_text(before + own, currency)} of {amount_text(intent.max_price_minor, currency)} was taken, "
            f"which humans approved in several parts that come to {amount_text(most, currency)}"
            if not over and before + own > intent.max_price_minor
            else ""
        )
        foreign = next(
            (
                other
                for other, spent in sorted({**totals, taking.currency: taking.amount_minor}.items())
                if other != currency and spent
            ),
            "",
        )
        crossed = task.priced[0] if task.priced else taking if over else None
        cost = Cost(intent.max_price_minor, currency, before, own, over, crossed is taking, crossed.first.event_id if crossed else "",
                    foreign if not over else "", "approved" if stated.by_approval else "asked for", doubt)  # fmt: skip
        if over:
            task.priced.append(taking)
        task.costs |= dict.fromkeys((act.event_id for act in taking.acts), cost)
        task.takings.append(taking)


def _pay(task: Task, payment: Taking) -> None:
    """A payment of what the task cost already passes its price where what it pays for did."""
    paid = [each for each in payment.within if each in task.takings]
    if not paid:
        return
    costs = [task.costs[each.first.event_id] for each in paid]
    cost = next((cost for cost in costs if cost.is_over), costs[-1])
    if cost.is_over:
        task.paying.append(payment)
    task.costs |= dict.fromkeys((act.event_id for act in payment.acts), cost._replace(first=False))


# Types and verbs by which a thing is bought, and not a call made, a reading taken or a bill settled.
_BUYING_TYPES = frozenset(
    "account.created domain.registered domain.transferred resource.provisioned subscription.started".split()
)
_BUYING = frozenset(
    "activate add allocate assign book buy checkout create enable hire issue launch lease open order provision purchase register "
    "rent request reserve start subscribe topup transfer".split()
)
_GOODS = frozenset(
    "account booking bucket cart certificate cluster container database device disk domain droplet environment esim flight function "
    "gift_card gpu host instance inventory_item ip item key licence license line listing machine mailbox member name node number "
    "order package phone phone_number plan pod product project registration replica repository resource room seat server share "
    "shipment sim site sku slot subscription ticket tier unit user vm volume voucher worker workspace".split()
)


def _kind_bought(taking: Taking, stated: Stated) -> str:
    """What kind of thing was bought: counted against an intent's quantity are things of the kind asked for; "" for none."""
    if taking.is_call:
        return ""
    intent = stated.intent
    for act in taking.acts:
        if act.type in ("domain.registered", "domain.transferred"):
            return "name"
    for act in taking.acts:
        target = act.payload.action.target if act.payload.action else None
        kind = target.type.lower() if target else ""
        last = act.verb.rpartition(".")[2].lower()
        renews = last in ("renew", "renewal", "extend") or act.type.endswith(".renewed")
        if renews:
            return ""
        bought = act.type in _BUYING_TYPES or last in _BUYING or (act.type == "payment.captured" and kind in _GOODS)
        # Where things were asked for by name, other things are another question than how many.
        if bought and kind in _GOODS and (not intent.targets or is_listed(act, intent)):
            return kind
    return ""


def _count(task: Task, taking: Taking, stated: Stated, *, is_judged: bool) -> None:
    """One more thing, unless it was given back before now: the same name twice is a repeat, and no second name. What a
    human approved by name counts, and is not judged by its number.
    """
    standing = [each for each in task.bought if not each.is_given_back(taking.at)]
    names = {_named(each) for each in standing if _named(each)}
    number = len(names | {_named(taking)}) if _named(taking) else len(standing) + 1
    task.bought.append(taking)
    if not is_judged:
        return
    task.counts |= dict.fromkeys((act.event_id for act in taking.acts), Count(stated.intent.quantity or 0, number))


def _named(taking: Taking) -> str:
    return next(
        (
            act.object.lower().rstrip(".")
            for act in taking.acts
            if act.type in ("domain.registered", "domain.transferred")
        ),
        "",
    )
