"""Spending as detectors see it, made up from a seed: loops of every kind, ordinary agent sessions, and ordinary months.

Acts are made directly, unsigned and without a database, so that a thousand months are judged in a minute. What a loop needs
until it is found is counted in charges from the last one of its first round; of a rephrased loop, from the first charge after
the price of its task was passed.
"""

import csv
import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path as File

import msgspec

from auditlog.core.amount import minor
from auditlog.core.chain.act import Act
from auditlog.core.chain.chain import Path
from auditlog.core.chain.statement import Grant
from auditlog.core.event import Action, Actor, Call, Intent, Money, Party, Payload, Period, Target

BEGAN = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)  # a Monday
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_numbers = count()


@dataclass
class Desk:
    """One human with an agent, from whom sub-agents may have grants of their own."""

    name: str = "ada"
    price_minor: int | None = None
    intent: Intent | None = None
    subs: dict[str, tuple[Party, Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.human = Party("https://id.example", self.name, "human")
        self.agent = Party("https://bots.example", f"{self.name}-bot", "agent")
        if self.price_minor is not None:
            self.intent = Intent(max_price_minor=self.price_minor, currency="USD")
        self.path = Path((_grant(f"g-{self.name}", None, self.human, self.agent, self.intent),), None, False)

    def sub(self, number: int) -> tuple[Party, Path]:
        if str(number) not in self.subs:
            party = Party("https://bots.example", f"{self.name}-sub{number}", "agent")
            below = _grant(f"g-{self.name}-{number}", f"g-{self.name}", self.agent, party, None)
            self.subs[str(number)] = party, Path((*self.path.grants, below), None, False)
        return self.subs[str(number)]

    def act(
        self, type: str, at: datetime, *, cost: float | None = 1, operation: str = "", args: dict | None = None, digest: str = "",
        target: tuple[str, str] = ("", ""), verb: str = "", provider: str = "toolbox", key: str = "", request: str = "", charge: str = "",
        rail: str = "meter", invoice: str = "", subscription: str = "", period: tuple[datetime, datetime] | None = None, task: str = "",
        session: str = "", sub: int | None = None, account: str = "", attempt: int | None = None, outcome: str = "success",
        authority: str = "", phase: str = "captured",
    ) -> Act:  # fmt: skip
        """`cost` in minor units; what is no whole number is kept exactly."""
        number = next(_numbers)
        actor, path = (self.agent, self.path) if sub is None else self.sub(sub)
        call = None
        if operation or key or attempt is not None:
            raw = {n: msgspec.Raw(json.dumps(v).encode()) for n, v in args.items()} if args is not None else None
            call = Call(operation=operation, args=raw, args_digest=digest, idempotency_key=key, attempt=attempt)
        money = None
        if cost is not None:
            whole = round(cost)
            between = Period(*(int(each.timestamp()) for each in period)) if period else None
            exact = {} if whole == cost else {"amount": f"{cost / 100:.6f}"}
            money = Money(
                amount_minor=None if exact else whole, currency="USD", phase=phase, rail=rail, charge=charge, invoice=invoice,
                subscription=subscription, period=between, authority=authority, **exact,
            )  # fmt: skip
        payload = Payload(
            outcome=outcome, action=Action(verb=verb, provider=provider, account=account, target=Target(*target)), call=call,
            money=money, actor=Actor(actor.iss, actor.sub, actor.kind),
        )  # fmt: skip
        amount = minor(money.exact) if money and money.exact is not None else money.amount_minor if money else None
        return Act(
            event_id=f"00000000-0000-0000-0000-{number:012}", leaf_index=number, type=type, source=provider, issuer=f"https://{provider}.example",
            grade="A", occurred_at=at, received_at=at, outcome=outcome, environment="live", principal=self.human.key, principal_claimed=False,
            actor=actor.key, provider=provider, account=account, target=target[1], resource="", stated_verb=verb, operation=operation,
            grant=path.grants[-1].id, token="", via_grant=path.grants[-1].id, txn="", session=session, task=task, project="",
            request_id=request, idempotency_key=key, phase=phase if money else "", amount_minor=amount, currency="USD" if money else "",
            rail=rail if money else "", charge=charge, within_remit=True, jkt="", payload=payload, path=path,
        )  # fmt: skip

    def call(self, at: datetime, operation: str, args: dict | None, *, cost: float = 1, **more) -> Act:
        return self.act(
            "usage.metered", at, operation=operation, args=args, cost=cost, **{"request": f"rq{next(_numbers)}"} | more
        )

    def pay(self, at: datetime, cost: float, **more) -> Act:
        return self.act(
            "payment.captured",
            at,
            cost=cost,
            **{"charge": f"ch{next(_numbers)}", "rail": "card", "provider": "shop"} | more,
        )


def _grant(id: str, parent: str | None, subject: Party, actor: Party, intent: Intent | None) -> Grant:
    rest = dict.fromkeys("details limits not_before expires_at audience max_depth redelegate gates jkt".split())
    return Grant(
        id=id, parent=parent, root=parent is None, subject=subject, actor=actor, granted_at=BEGAN - DAY, leaf_index=0, event_id=f"ev-{id}",
        source="keys", attester="https://keys.example", grade="A", standing="proven", intent=intent, **rest,
    )  # fmt: skip


# --- loops ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Injected:
    """`counted`: how many acts there are with the charge that is counted as the first: the last of the first round; of a
    rephrased loop, the one that passes the price.
    """

    kind: str
    acts: list[Act]
    counted: int
    is_dear: bool  # one repeat costs more than a tenth of the task's price


KINDS = ("exact", "volatile", "period 2", "period 3", "period 4", "sub-agents", "rephrased", "rephrased in turn")


def injected(kind: str, chance: random.Random) -> Injected:
    """One loop after some ordinary work."""
    cost = chance.choice((0.3, 1, 2, 13, 25, 80, 500))
    price = None if chance.random() < 0.4 else max(1, round(cost * chance.choice((2, 5, 10, 20, 40))))
    if kind.startswith("rephrased"):
        price = max(1, round(cost * chance.choice((1, 2, 4, 8, 12, 20, 40))))
    desk = Desk(price_minor=price)
    at, acts = BEGAN, []
    gap = chance.choice((2, 10, 40, 90))
    for n in range(chance.randrange(6)):
        at += gap * SECOND
        acts.append(desk.call(at, f"tool.{n % 4}", {"item": f"i{n}", "mode": "full"}, cost=cost))
    length = {"period 2": 2, "period 3": 3, "period 4": 4}.get(kind, 1)
    names = [f"step.{n}" if chance.random() < 0.5 else "step" for n in range(length)]
    counted, spent = None, sum(act.exact_minor or 0 for act in acts)
    for n in range(80):
        at += gap * SECOND * chance.uniform(0.7, 1.3)
        args: dict = {"doc": f"d{n % length}", "lang": "en"}
        more: dict = {}
        if kind == "volatile":
            args |= {
                "request_id": f"r{chance.random()}",
                "timestamp": at.isoformat(),
                "attempt": n,
                "traceId": f"t{chance.random()}",
            }
        if kind == "sub-agents":
            more = {"sub": n, "task": f"t{n}", "session": f"s{n}"}
            args |= {"task_id": f"t{n}"}
        operation = names[n % length]
        if kind == "rephrased":
            args = {"query": f"how do I {chance.random()} the thing"}
        if kind == "rephrased in turn":
            args, operation = {"query": f"is it {chance.random()}"}, ("ask", "check")[n % 2]
        acts.append(desk.call(at, operation, args, cost=cost, key=f"k{chance.random()}", **more))
        spent += acts[-1].exact_minor or 0
        if kind.startswith("rephrased"):
            if counted is None and price is not None and spent > price:
                counted = len(acts)
        elif n == length - 1:
            counted = len(acts)
        if counted is not None and len(acts) - counted >= 30:
            break
    return Injected(kind, acts, counted or len(acts), price is not None and cost > price / 10)


def charges_until_found(loop: Injected, find: Callable[[Sequence[Act]], bool], most: int = 30) -> int | None:
    """Charges that the loop had made when it was first found, judged after each of them; None: never."""
    for number in range(1, min(most, len(loop.acts) - loop.counted + 1) + 1):
        if find(loop.acts[: loop.counted + number - 1]):
            return number
    return None


# --- ordinary sessions ------------------------------------------------------------------------------------------------


def sessions(path: File, *, share: float | None, errors_cost: bool = True) -> Iterator[list[Act]]:
    """Tool calls of real sessions (columns task_id, trial, tool, args_digest, result_is_error), each charged 0.01; or `share` of
    a price that was stated for the session.
    """
    rows: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with path.open() as file:
        for row in csv.DictReader(file):
            rows[row["task_id"], row["trial"]].append(row)
    for number, calls in enumerate(rows.values()):
        desk = Desk(name=f"u{number}", price_minor=None if share is None else 500)
        cost = 1 if share is None else 500 * share
        yield [
            desk.call(
                BEGAN + n * 7 * SECOND, row["tool"], None, digest=row["args_digest"], cost=cost, session=f"s{number}"
            )
            for n, row in enumerate(calls)
            if errors_cost or row["result_is_error"] == "0"
        ]


# --- ordinary months --------------------------------------------------------------------------------------------------


def month(chance: random.Random) -> list[Act]:
    """Thirty days of one human's agents: machines, meters, subscriptions, invoices, and nights on which a batch runs for thirty
    customers; told in one of the ways in which senders tell them.
    """
    desk = Desk(name=f"m{chance.randrange(10**9)}")
    acts: list[Act] = []
    for part in (_machines, _subscriptions, _invoices, _batch, _assistant, _topups):
        if chance.random() < 0.75:
            acts += part(desk, chance)
    return sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index))


def _machines(desk: Desk, chance: random.Random) -> Iterable[Act]:
    every, way = chance.choice((HOUR, HOUR, DAY, 6 * HOUR)), chance.randrange(3)
    for m in range(chance.randint(1, 3)):
        cost = chance.choice((4, 31, 242))
        for n in range(int(30 * DAY / every)):
            at = BEGAN + n * every + chance.randrange(40) * SECOND
            if chance.random() < 0.02:
                continue
            args = ({"hours": 1}, {"class": "m5.large"}, {"gb": 20})[way]
            yield desk.act(
                "usage.metered", at, cost=cost, provider="cloud", target=("instance", f"i-{m}"), rail="cloud",
                **({"operation": "compute", "args": args} if chance.random() < 2 and way else {}),
            )  # fmt: skip


def _subscriptions(desk: Desk, chance: random.Random) -> Iterable[Act]:
    for s in range(chance.randint(1, 4)):
        day, cost = chance.randrange(28), chance.choice((900, 1900, 4900))
        at = BEGAN + day * DAY + chance.randrange(24) * HOUR
        kind = "subscription.renewed" if chance.random() < 0.7 else "subscription.started"
        yield desk.act(kind, at, cost=cost, provider="saas", target=("subscription", f"sub-{s}"), subscription=f"sub-{s}", rail="card",
                       charge=f"ch{next(_numbers)}", period=(at, at + 30 * DAY), phase="")  # fmt: skip


def _invoices(desk: Desk, chance: random.Random) -> Iterable[Act]:
    for n in range(chance.randint(1, 6)):
        at, cost = BEGAN + chance.randrange(25) * DAY, chance.randrange(500, 90_000)
        yield desk.act(
            "invoice.issued",
            at,
            cost=cost,
            provider=f"vendor{n}",
            invoice=f"in-{n}",
            target=("invoice", f"in-{n}"),
            phase="",
            rail="",
        )
        yield desk.pay(
            at + 2 * DAY,
            cost,
            provider=f"vendor{n}",
            target=("invoice", f"in-{n}"),
            verb="invoice.pay",
            invoice=f"in-{n}",
        )


BATCHES = ("customer", "account", "task", "thing", "key", "pages", "steps", "charged", "same day key")


def _batch(desk: Desk, chance: random.Random) -> Iterable[Act]:
    """Every night the same for each of thirty customers."""
    way, cost = chance.choice(BATCHES), chance.choice((1, 5, 12, 40, 250))
    begins = chance.choice((1, 2, 3)) * HOUR
    for night in range(30):
        at = BEGAN + night * DAY - 8 * HOUR + begins
        for c in range(30):
            at += chance.randrange(1, 20) * SECOND
            args: dict = {"report": "usage", "format": "pdf"}
            if way == "customer":
                yield desk.call(at, "report.build", args | {"customer_id": f"cus_{c}"}, cost=cost)
            elif way == "account":
                yield desk.call(at, "report.build", args, cost=cost, account=f"cus_{c}")
            elif way == "task":
                yield desk.call(at, "report.build", args, cost=cost, task=f"night-{night}-{c}", key=f"{night}-{c}")
            elif way == "thing":
                yield desk.call(at, "report.build", args, cost=cost, target=("customer", f"cus_{c}"))
            elif way == "key":
                yield desk.call(at, "report.build", {"customer": f"cus_{c}"}, cost=cost, key=f"report-{night}-cus_{c}")
            elif way == "pages":
                for page in range(3):
                    yield desk.call(at + page * SECOND, "page.read", {"customer": f"cus_{c}", "page": page}, cost=cost)
            elif way == "steps":
                for step in ("load", "render", "send"):
                    yield desk.call(at, f"report.{step}", {"customer": f"cus_{c}", "day": night}, cost=cost)
            elif way == "charged":
                yield desk.pay(
                    at,
                    cost * 10,
                    operation="customer.charge",
                    args={"plan": "pro"},
                    target=("customer", f"cus_{c}"),
                    key=f"{night}.{c}",
                )
            else:
                yield desk.pay(at, cost * 10, operation="email.send", args={"to": f"cus_{c}@example"}, key=f"{night}")


def _assistant(desk: Desk, chance: random.Random) -> Iterable[Act]:
    """Working days of an assistant whose calls are charged; now and then one is made twice."""
    for day in range(30):
        if day % 7 >= 5:
            continue
        for number in range(chance.randint(1, 6)):
            at, last = BEGAN + day * DAY + chance.randrange(9 * 60) * MINUTE, None
            is_twice = False
            for _ in range(chance.randint(2, 14)):
                at += chance.randrange(2, 60) * SECOND
                if last is None or is_twice or chance.random() > 0.03:
                    is_twice, last = (
                        False,
                        (chance.choice(("search", "read", "write", "ask")), {"q": f"{chance.random()}"}),
                    )
                else:
                    is_twice = True
                yield desk.call(at, *last, cost=chance.choice((0.4, 1, 3)), session=f"{day}.{number}")


def _topups(desk: Desk, chance: random.Random) -> Iterable[Act]:
    for day in sorted(chance.sample(range(30), 4)):
        yield desk.pay(BEGAN + day * DAY, 5000, target=("wallet", "w"), verb="wallet.topup", provider="llm")
