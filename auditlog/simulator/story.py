"""Thirty days of three humans and eight agents: ordinary work, and a dozen incidents on days of their own.

`expected` says what a correct set of detectors finds. Every other act is fully attributed (grant, token, actor,
idempotency key, gates answered, intents equal, limits kept), so a finding on it is a false one. Nothing here reads a
clock; chance comes from `random.Random(seed)` alone.

Two choices to know. The sources sign (`iat`) at `now` and say when each act happened in `toe`: a backfill, so that
receipt and `iat` agree. Each source sends in bursts every four hours, so a child sometimes arrives before its parent.
"""

import random
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from auditlog.simulator.world import Party, Signed, SourceSpec, World, limit_object, registration

# Acts have a dozen short fields; as paragraphs they can be read.
# fmt: off

RULES = tuple(
    """
    squatting.lookalike squatting.bulk_registration squatting.campaign
    intent.domain_mismatch intent.quantity_exceeded intent.price_exceeded
    spend.retry_loop spend.duplicate_charge spend.cap_exceeded spend.cross_provider_cap spend.concurrency_overshoot
    spend.self_raise spend.cap_creep spend.velocity spend.forecast_breach spend.uncapped spend.key_missing
    spend.stranded
    authority.scope_widened authority.limit_widened authority.outlives_parent authority.depth_exceeded authority.cycle
    authority.used_after_revocation authority.used_after_expiry authority.audience_mismatch authority.out_of_scope
    authority.gate_missing authority.key_mismatch authority.orphan_token authority.unattributed
    authority.confused_deputy authority.shared_key authority.token_elsewhere
    integrity.signature_failed integrity.duplicate_conflict integrity.source_gap integrity.source_silent
    authority.refused_and_done spend.authority_exceeded spend.bill_differs
    integrity.clock_skew integrity.sources_disagree
    """.split()
)

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
BURST = 4 * HOUR

ID_1, ID_2 = "https://id.superseal.example", "https://id.acme.example"
CONDUCTOR, MAESTRO = "https://conductor.example", "https://maestro.example"


@dataclass(frozen=True, slots=True)
class OwnedNames:
    """Brands and domains that an organisation owns; `issuer` is where its people have their accounts."""

    organisation: str
    issuer: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expected:
    """A finding that must be made. `jtis` are its anchor events, or all of them where the finding is about many.

    `count` None: at least one, and all of them rest on `jtis`.
    """

    rule: str
    principal: tuple[str, str] | None
    count: int | None
    txn: str | None
    jtis: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Tolerated:
    """A finding that may be made beside an incident, because it is a fair reading of the same events."""

    rule: str
    principal: tuple[str, str] | None
    why: str


@dataclass(frozen=True, slots=True)
class Spend:
    """What a principal must be said to have spent at a provider, each obligation once. Minor units."""

    principal: tuple[str, str]
    provider: str
    currency: str
    amount_minor: int
    why: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A delivery that the service must refuse; `position` counts from 0 in `deliveries`."""

    position: int
    kind: str  # `signature_failed` or `duplicate_conflict`


@dataclass(frozen=True, slots=True)
class Story:
    tenant: str
    sources: tuple[SourceSpec, ...]
    owned_names: tuple[OwnedNames, ...]
    humans: tuple[Party, ...]
    agents: tuple[Party, ...]
    deliveries: tuple[Signed, ...]  # in order of arrival, retries included
    expected: tuple[Expected, ...]
    tolerated: tuple[Tolerated, ...]
    refusals: tuple[Refusal, ...]
    spends: tuple[Spend, ...] = ()

    @property
    def silent(self) -> tuple[str, ...]:
        """Rules that must not be found anywhere."""
        heard = {item.rule for item in (*self.expected, *self.tolerated)}
        return tuple(rule for rule in RULES if rule not in heard)

    def allows(self, rule: str, principal: tuple[str, str] | None) -> bool:
        """Whether a finding of `rule` against `principal` is expected or tolerated."""
        return any((item.rule, item.principal) == (rule, principal) for item in (*self.expected, *self.tolerated))


def demo_story(*, seed: int = 7, now: datetime, tenant: str = "default") -> Story:
    """Build the story ending at `now`: the same for the same (seed, now, tenant)."""
    return _Teller(seed, now.astimezone(UTC), tenant).tell_all()


@dataclass(frozen=True, slots=True)
class _Desk:
    """A human, the agents that work for them, and what they may spend a month (USD cents)."""

    human: Party
    lead: Party
    buyer: Party
    worker: Party
    orchestrator: SourceSpec
    project: str
    caps: dict[str, int]  # by provider, `global` for all together
    cloud_verbs: tuple[str, ...]
    has_metered_work: bool


@dataclass(frozen=True, slots=True)
class _Workday:
    """What a session of one day left for the acts in it."""

    session: str
    token: Signed


_TOPICS = "harbour orchard lantern meadow quarry saddle thicket willow anvil cinder drumlin ember".split()
_SECTIONS = "preface outline glossary appendix summary abstract caption footnote index errata legend".split()
_STYLES = "plain formal brief warm terse vivid".split()
_POOLS = "amber basalt cobalt dune fern garnet heath iris juniper kelp larch moss nettle ochre pine quartz".split()


class _Teller:
    def __init__(self, seed: int, now: datetime, tenant: str) -> None:
        self.rng = random.Random(seed)
        self.world = world = World(seed=seed, tenant=tenant, now=now, issued_at=now)
        self.start = now - timedelta(days=30)
        self.first_midnight = self.start.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
        self.told: list[tuple[tuple, Signed, str | None]] = []  # arrival key, delivery, kind of refusal
        self.spent: dict[tuple[str, str, str], int] = defaultdict(int)  # (human, provider, month) -> cents
        self.days: dict[tuple[str, int], _Workday] = {}
        self.expected: list[Expected] = []
        self.tolerated: list[Tolerated] = []
        self.spends: list[Spend] = []

        ids, agents = (ID_1, ID_2), (CONDUCTOR, MAESTRO)
        self.tokens = world.source(
            "tokens", "https://tokens.example", layers=["authority"],
            speaks_for=["https://tokens.example", *ids, *agents],
        )
        orchestrating = ["orchestration", "money"]
        self.conductor = world.source("conductor", CONDUCTOR, layers=orchestrating, speaks_for=[CONDUCTOR, ID_1])
        self.maestro = world.source("maestro", MAESTRO, layers=orchestrating, speaks_for=[MAESTRO, ID_2])
        self.registrar = self._provider("registrar", "https://registrar.example", ["domains"])
        self.cloud = self._provider("cloud", "https://cloud.example", ["provider", "orchestration"])
        self.meter = self._provider("meter", "https://meter.example", ["money", "provider"])
        world.stripe_source("stripe")
        self.rank = {name: rank for rank, name in enumerate(world.sources)}

        agent = world.agent
        atlas, buyer, scribe, fresh = (
            agent(sub, issuer=CONDUCTOR) for sub in ("atlas", "atlas/buyer", "atlas/scribe", "atlas/scribe-two")
        )
        nova, deployer = (agent(sub, issuer=CONDUCTOR) for sub in ("nova", "nova/deployer"))
        orion, ops = (agent(sub, issuer=MAESTRO) for sub in ("orion", "orion/ops"))
        self.fresh = fresh
        self.agents = (atlas, buyer, scribe, fresh, nova, deployer, orion, ops)
        self.ada = _Desk(
            world.human("ada", issuer=ID_1), atlas, buyer, scribe, self.conductor, "superseal-web",
            {"global": 500_000, "registrar": 20_000, "cloud": 60_000, "meter": 200_000},
            ("worker.deploy", "database.create", "queue.create"), True,
        )
        self.mia = _Desk(
            world.human("mia", issuer=ID_1), nova, deployer, deployer, self.conductor, "superseal-docs",
            {"global": 200_000, "registrar": 30_000, "cloud": 10_000, "meter": 50_000},
            ("worker.deploy", "bucket.create", "cache.purge"), True,
        )
        self.ben = _Desk(
            world.human("ben", issuer=ID_2), orion, ops, ops, self.maestro, "acme-shop",
            {"global": 25_000, "registrar": 6_000, "cloud": 6_000, "meter": 6_000},
            ("worker.deploy", "worker.restart", "database.create", "cache.purge"), False,
        )
        self.desks = (self.ada, self.mia, self.ben)
        every_call = [(topic, part, style) for topic in _TOPICS for part in _SECTIONS for style in _STYLES]
        self.calls = {d.human.sub: self.rng.sample(every_call, len(every_call)) for d in self.desks}

    def _provider(self, name: str, issuer: str, layers: list[str]) -> SourceSpec:
        """A provider speaks for itself and for the agents that called it, never for the humans behind them."""
        return self.world.source(name, issuer, layers=layers, speaks_for=[issuer, CONDUCTOR, MAESTRO], provider=name)

    def tell_all(self) -> Story:
        self.standing = {desk.human.sub: self.open_desk(desk) for desk in self.desks}
        for day in range(29):
            for desk in self.desks:
                self.days[desk.human.sub, day] = self.workday(desk, day)
        self.ordinary_purchases()
        self.ordinary_money()

        self.wrong_names()
        self.retry_loop()
        self.cap_exceeded()
        self.forty_names()
        self.widened_scope()
        self.late_use()
        self.missing_gate()
        self.unattributed_act()
        self.conflict()
        self.forgeries()
        self.raised_caps()
        self.billed_usage()
        self.raise_by_the_human()
        self.refusal()
        self.stop()
        self.retries()
        self.told.sort(key=lambda item: item[0])
        return Story(
            tenant=self.world.tenant, sources=tuple(self.world.sources.values()),
            owned_names=(
                OwnedNames("superseal", ID_1, ("superseal", "superseal.club")),
                OwnedNames("acme", ID_2, ("acme", "acme.io")),
            ),
            humans=tuple(desk.human for desk in self.desks), agents=self.agents,
            deliveries=tuple(signed for _, signed, _ in self.told), expected=tuple(self.expected),
            tolerated=tuple(self.tolerated),
            refusals=tuple(Refusal(n, kind) for n, (_, _, kind) in enumerate(self.told) if kind),
            spends=tuple(self.spends),
        )

    # -- ordinary life

    def open_desk(self, desk: _Desk) -> Signed:
        """The first hour: accounts, terms and limits by the human, and the standing grant."""
        human, lead, world = desk.human, desk.lead, self.world
        at = self.start + 5 * MINUTE
        common = {"principal": human, "actor": human, "mode": "direct", "project": desk.project}
        common |= {"txn": f"txn-{human.sub}-setup", "task": f"task-{human.sub}-setup", "source": desk.orchestrator}
        project = {"verb": "project.create", "target": {"type": "project", "id": desk.project}}
        self.tell(world.event("project.created", at=at, action=project, **common))
        for n, provider in enumerate(("registrar", "cloud", "meter")):
            action = {"provider": provider, "account": self.account(desk, provider)}
            target = {"type": "account", "id": self.account(desk, provider)}
            for step, type, verb in (
                (1, "account.created", "account.create"), (2, "terms.accepted", "terms.accept"),
                (3, "provider.linked", "provider.link"),
            ):
                act = action | {"verb": verb, "target": target}
                self.tell(world.event(type, at=at + n * MINUTE + 10 * step * SECOND, action=act, **common))
        for n, (what, cap) in enumerate(desk.caps.items()):
            self.tell(world.limit("set", cap, at=at + 5 * MINUTE + n * SECOND, **self.limit(desk, what), **common))

        grant = world.grant(
            human, lead,
            actions=[
                "worker.*", "database.*", "queue.*", "bucket.*", "cache.*", "tensor.*", "domain.search", "domain.check",
                "payment.*", "subscription.*", "invoice.*",
            ],
            providers=["registrar", "cloud", "meter"], resources=["**"],
            limits=[self.limit_said(desk, what) for what in desk.caps], expires_in=timedelta(days=90), max_depth=2,
            redelegate=True, audience=["registrar", "cloud", "meter"], at=at + 10 * MINUTE, source=self.tokens,
            txn=common["txn"], project=desk.project,
        )
        return self.tell(grant)

    def workday(self, desk: _Desk, day: int) -> _Workday:
        world, rng, human = self.world, self.rng, desk.human
        standing = self.standing[human.sub]
        at = self.at(day, 8) + timedelta(seconds=rng.randrange(1800))
        session = f"sess-{human.sub}-{day:02}"
        name = f"{human.sub}-day-{day:02}"
        # Ada's work passes through both of her sub-agents every third day: human -> lead -> buyer -> scribe.
        is_long = desk is self.ada and day % 3 == 1
        ctx = {"txn": f"txn-{name}", "task": f"task-{name}", "session": session, "project": desk.project}
        login = {"verb": "login", "target": {"type": "session", "id": session}}
        self.tell(
            world.event(
                "session.started", at=at, source=self.tokens, principal=human, actor=human, mode="direct", action=login,
                **ctx,
            )
        )
        lead_token = self.tell(
            world.token(
                standing, at=at + 5 * SECOND, source=self.tokens, audience=["registrar", "cloud", "meter"], **ctx
            )
        )
        parent, parent_token = standing, lead_token
        hops = [desk.buyer, desk.worker] if is_long else [desk.worker]
        for n, party in enumerate(hops):
            subject = desk.lead if n == 0 else hops[n - 1]
            details = [
                {"actions": list(desk.cloud_verbs), "providers": ["cloud"], "resources": [f"project/{desk.project}/**"]}
            ]
            if desk.has_metered_work:
                details.append({"actions": ["tensor.*"], "providers": ["meter"], "resources": ["meter/**"]})
            is_last = n == len(hops) - 1
            granted_at = at + (20 + 15 * n) * SECOND
            limit = {
                "id": f"lim-{name}-{n}", "scope": "provider", "provider": "meter", "max_minor": 4_000 - 1_000 * n,
                "currency": "USD", "interval": "month",
            }
            child = world.grant(
                subject, party, parent=parent, details=details, limits=[limit], audience=["cloud", "meter"],
                expires_in=self.at(day, 20) - granted_at, max_depth=1 - n, redelegate=not is_last, at=granted_at,
                source=self.tokens, **ctx,
            )
            # Now and then the hop in the middle arrives after everything that rests on it.
            self.tell(child, late=(is_long and not is_last) or (day % 7 == 3 and not is_long))
            token = world.token(
                child, parent=parent_token, at=granted_at + 5 * SECOND, source=self.tokens, audience=["cloud", "meter"],
                expires_in=self.at(day, 20) - granted_at - MINUTE, **ctx,
            )
            self.tell(token)
            parent, parent_token = child, token

        acting = ctx | {"grant": parent, "token": parent_token}
        lead_acting = ctx | {"grant": standing, "token": lead_token}
        search = {"verb": "domain.search", "provider": "registrar", "account": self.account(desk, "registrar")}
        query = f"{rng.choice(_TOPICS)}-{rng.choice(_POOLS)}"
        search |= {"target": {"type": "query", "id": query}, "resource": f"search/{query}"}
        self.tell(
            world.event(
                "domain.searched", at=at + 7 * MINUTE, source=self.registrar, action=search,
                client=self.client(desk.lead), **lead_acting,
            )
        )
        for n in range(3 if desk.has_metered_work else 6):
            self.build(desk, at + (20 + 45 * n) * MINUTE + timedelta(seconds=rng.randrange(600)), acting)
        if desk.has_metered_work:
            for n in range(10):
                self.metered_call(desk, at + (30 + 50 * n) * MINUTE + timedelta(seconds=rng.randrange(1200)), acting)
        action = {"verb": "logout", "target": {"type": "session", "id": session}}
        self.tell(
            world.event(
                "session.ended", at=self.at(day, 19), source=self.tokens, principal=human, actor=human, mode="direct",
                action=action, **ctx,
            )
        )
        return _Workday(session, lead_token)

    def build(self, desk: _Desk, at: datetime, acting: dict) -> None:
        """One piece of cloud work: a deployment, or a resource asked for and given."""
        rng, world = self.rng, self.world
        verb = rng.choice(desk.cloud_verbs)
        kind = verb.partition(".")[0]
        thing = f"{kind}-{rng.choice(_TOPICS)}-{rng.choice(_POOLS)}"
        action = {
            "verb": verb, "provider": "cloud", "account": self.account(desk, "cloud"),
            "target": {"type": kind, "id": thing}, "resource": f"project/{desk.project}/{kind}/{thing}",
        }
        who = acting | {"action": action, "client": self.client(desk.worker), "request_id": world.new_id("req")}
        if verb.endswith(".create"):
            asked = {name: value for name, value in who.items() if name != "client"}
            self.tell(world.event("resource.requested", at=at, source=desk.orchestrator, outcome="pending", **asked))
            took = timedelta(milliseconds=rng.randrange(900, 9000))
            self.tell(world.event("resource.provisioned", at=at + took, source=self.cloud, **who))
        else:
            type = "deployment.completed" if verb == "worker.deploy" else "action.performed"
            self.tell(world.event(type, at=at + timedelta(microseconds=rng.randrange(10**6)), source=self.cloud, **who))

    def metered_call(self, desk: _Desk, at: datetime, acting: dict) -> None:
        """A call that nobody made before: every (topic, section, style) comes once per desk."""
        topic, part, style = self.calls[desk.human.sub].pop()
        operation = self.rng.choice(("tensor.embed", "tensor.write", "tensor.translate"))
        amount = self.rng.randrange(8, 42)
        self.spend(desk, "meter", at, amount)
        self.tell(
            self.world.metered(
                operation, {"topic": topic, "section": part, "style": style}, amount_minor=amount, at=at,
                source=self.meter, client=self.client(desk.worker), **acting,
            )
        )

    def ordinary_purchases(self) -> None:
        """Names bought exactly as asked, and paid for once a human said yes to exactly that."""
        plan = {
            4: (self.ada, "superseal.club", 1_400), 6: (self.mia, "tarnhollow.net", 1_150),
            9: (self.ben, "acme.dev", 1_300), 12: (self.ada, "brackenfold.dev", 1_250),
            16: (self.ben, "murrelthwaite.net", 1_200), 18: (self.mia, "wendlestone.org", 1_050),
            20: (self.ada, "superseal.dev", 1_500), 25: (self.mia, "superseal.app", 1_600),
        }
        for day, (desk, name, price) in plan.items():
            self.purchase(desk, day, name, price, is_parent_late=day % 4 == 0)

    def purchase(
        self, desk: _Desk, day: int, name: str, price: int, *, wanted: str | None = None, gates: tuple = ("purchase",),
        is_answered: bool = True, is_parent_late: bool = False, max_price: int | None = None, label: str = "",
    ) -> tuple[Signed, Signed]:
        """Ask, approve, register, charge. Returns the registration and Stripe's charge."""
        world, human = self.world, desk.human
        at = self.at(day, 13) + timedelta(seconds=self.rng.randrange(3600))
        slug = label or f"{human.sub}-buy-{day:02}"
        wanted = wanted or name
        max_price = max_price or price
        ctx = {
            "txn": f"txn-{slug}", "task": f"task-{slug}", "project": desk.project,
            "session": self.days[human.sub, day].session,
        }
        intent = {
            "text": f"Buy {wanted} for one year, at most {max_price / 100:.2f} USD", "targets": [wanted], "quantity": 1,
            "max_price_minor": max_price, "currency": "USD",
        }
        actions = ["domain.search", "domain.check", "domain.register"]
        root = world.grant(
            human, desk.lead, actions=actions, providers=["registrar"], resources=["**"],
            limits=[self.limit_said(desk, "registrar")], gates=list(gates) or None, intent=intent,
            audience=["registrar"], expires_in=6 * HOUR, max_depth=1, redelegate=True, at=at, source=self.tokens, **ctx,
        )
        self.tell(root, late=is_parent_late)
        narrower = [name] if name == wanted else ["**"]
        child = self.tell(
            world.grant(
                desk.lead, desk.buyer, parent=root, actions=["domain.check", "domain.register"],
                providers=["registrar"], resources=narrower, audience=["registrar"], expires_in=4 * HOUR, max_depth=0,
                redelegate=False, at=at + 4 * SECOND, source=self.tokens, **ctx,
            )
        )
        life = {"source": self.tokens, "audience": ["registrar"], "expires_in": 3 * HOUR}
        token = self.tell(world.token(root, at=at + 6 * SECOND, **life, **ctx))
        exchanged = self.tell(world.token(child, parent=token, at=at + 8 * SECOND, **life, **ctx))
        account = self.account(desk, "registrar")
        action = registration(name, account=account)
        # Whatever is bought in the end, it is the wanted name that was looked for.
        looking = {
            "provider": "registrar", "account": account, "target": {"type": "domain", "id": wanted}, "resource": wanted,
        }
        self.tell(
            world.event(
                "domain.searched", at=at + 20 * SECOND, source=self.registrar,
                action=looking | {"verb": "domain.search"}, client=self.client(desk.lead), grant=root, token=token,
                **ctx,
            )
        )
        acting = ctx | {"grant": child, "token": exchanged}
        self.tell(
            world.event(
                "domain.checked", at=at + 25 * SECOND, source=self.registrar, action=looking | {"verb": "domain.check"},
                client=self.client(desk.buyer), **acting,
            )
        )
        request_id = world.new_id("req")
        if gates:
            self.tell(
                world.event(
                    "approval.requested", at=at + 30 * SECOND, source=self.tokens, action=action, outcome="pending",
                    request_id=request_id, **acting,
                )
            )
            if is_answered:
                yes = {"action": action, "max_price_minor": price, "currency": "USD", "at": at + 3 * MINUTE}
                self.tell(world.approval(human, source=self.tokens, request_id=request_id, **yes, **ctx))
        charge, key = world.new_id("ch"), f"key-{slug}"
        self.spend(desk, "registrar", at, price)
        bought = self.tell(
            world.registers(
                name, price_minor=price, account=account, charge=charge, key=key, at=at + 4 * MINUTE,
                source=self.registrar, client=self.client(desk.buyer), request_id=request_id, **acting,
            )
        )
        paid = self.charge_succeeded(desk, charge, price, key, at + 4 * MINUTE + 2 * SECOND, f"Domain {name}", ctx)
        return bought, paid

    def ordinary_money(self) -> None:
        """Cloud top-ups for Ada, a weekly subscription each for Ada and Mia, refunds, renewed and raised limits."""
        world = self.world
        for n, day in enumerate(range(2, 29, 3)):
            pool = _POOLS[n]
            charge, paid_at = self.pay(
                self.ada, day, "cloud", 1_200 + 50 * n, f"ada-topup-{day:02}", f"Worker pool {pool}",
                call={"operation": "worker.topup", "args": {"pool": pool}}, in_steps=True,
            )
            if n in (1, 4, 7):
                self.refund(charge, 400, paid_at + 20 * HOUR)
        for desk in (self.ada, self.mia):
            plan = {
                "verb": "subscription.start", "provider": "meter", "account": self.account(desk, "meter"),
                "target": {"type": "subscription", "id": f"sub-{desk.human.sub}"},
                "resource": f"subscription/sub-{desk.human.sub}",
            }
            slug = f"{desk.human.sub}-subscription"
            ctx = {"txn": f"txn-{slug}", "task": f"task-{slug}", "grant": self.standing[desk.human.sub]}
            authority = f"spt-{desk.human.sub}"
            ceiling = {
                "amount_minor": 10_000, "currency": "USD", "phase": "ceiling", "rail": "stripe", "authority": authority,
            }
            allow = plan | {"verb": "payment.authorize"}
            self.tell(
                world.event(
                    "payment.authority_granted", at=self.at(1, 9, 30), source=desk.orchestrator, action=allow,
                    money=ceiling, call={"idempotency_key": f"key-{authority}"}, **ctx,
                )
            )
            self.tell(
                world.event("subscription.started", at=self.at(1, 9, 40), source=desk.orchestrator, action=plan, **ctx)
            )
            for week, word in enumerate(("first", "second", "third", "fourth")):
                day = 1 + 7 * week
                bill = plan | {"target": {"type": "invoice", "id": f"in-{desk.human.sub}-{week}"}}
                bill["resource"] = f"invoice/in-{desk.human.sub}-{week}"
                issued = bill | {"verb": "invoice.issue"}
                self.tell(
                    world.event(
                        "invoice.issued", at=self.at(day, 9, 50), source=desk.orchestrator, action=issued, **ctx
                    )
                )
                self.pay(
                    desk, day, "meter", 900, f"{slug}-{word}", f"Weekly plan, {word} week", at=self.at(day, 10),
                    call={"operation": "subscription.renew", "args": {"plan": "team", "period": word}},
                    authority=authority, task=ctx["task"],
                )
        for desk in self.desks:
            renewed = {"principal": desk.human, "source": desk.orchestrator, "txn": f"txn-{desk.human.sub}-renewal"}
            for n, (what, cap) in enumerate(desk.caps.items()):
                at = self.at(14, 8, 5) + n * SECOND
                self.tell(world.limit("set", cap, at=at, **self.limit(desk, what), **renewed))
        # Ada plans a bigger month and says so herself, long before any limit is near.
        self.tell(
            world.limit(
                "raised", 80_000, at=self.at(16, 9), principal=self.ada.human, source=self.conductor,
                txn="txn-ada-raise", **self.limit(self.ada, "cloud"),
            )
        )

    # -- the incidents, each on its own day

    def wrong_names(self) -> None:
        """(a) The name bought is not the name asked for; grant and price allow it."""
        for desk, day, wanted, got in (
            (self.ada, 3, "superseal.club", "superseal.cc"), (self.ben, 5, "acme.io", "acme-corp.io"),
        ):
            slug = f"{desk.human.sub}-wrong-name"
            bought, paid = self.purchase(desk, day, got, 1_100, wanted=wanted, gates=(), max_price=2_000, label=slug)
            self.expect("intent.domain_mismatch", desk, bought, why=f"asked for {wanted}, bought {got}")
            if desk is self.ada:
                self.dispute(paid)

    def retry_loop(self) -> None:
        """(b) A task of five dollars costs four hundred: one call, charged eighty times, partly by a new sub-agent."""
        world, desk, day = self.world, self.ada, 8
        at = self.at(day, 14)
        ctx = {"txn": "txn-ada-film", "task": "task-ada-film", "session": self.days["ada", day].session}
        intent = {"text": "Render the launch film, for no more than 5 USD", "max_price_minor": 500, "currency": "USD"}
        scope = {"actions": ["tensor.render"], "providers": ["meter"], "resources": ["meter/**"]}
        root = self.tell(
            world.grant(
                desk.human, desk.lead, **scope, limits=[self.limit_said(desk, "meter")], intent=intent,
                expires_in=5 * HOUR, max_depth=1, redelegate=True, at=at, source=self.tokens, **ctx,
            )
        )
        hands = []
        for n, party in enumerate((desk.worker, self.fresh)):
            begins = at + 10 * SECOND + n * 35 * MINUTE
            child = self.tell(
                world.grant(
                    desk.lead, party, parent=root, **scope, expires_in=4 * HOUR, max_depth=0, redelegate=False,
                    at=begins, source=self.tokens, **ctx,
                )
            )
            token = self.tell(
                world.token(
                    child, at=begins + SECOND, expires_in=3 * HOUR, source=self.tokens, audience=["meter"], **ctx
                )
            )
            hands.append((party, child, token))
        charges = []
        for n in range(80):
            called = at + MINUTE + n * 40 * SECOND
            # From the 55th call on the fresh sub-agent takes every second one.
            party, grant, token = hands[1 if n >= 55 and n % 2 else 0]
            request_id = world.new_id("req")
            args = {
                "scene": "launch-film", "quality": "final", "request_id": request_id, "timestamp": called.isoformat(),
            }
            self.spend(desk, "meter", called, 500)
            charges.append(
                self.tell(
                    world.metered(
                        "tensor.render", args, amount_minor=500, at=called, attempt=n + 1, source=self.meter,
                        grant=grant, token=token, request_id=request_id, client=self.client(party), **ctx,
                    )
                )
            )
        self.expect(
            "spend.retry_loop", desk, *charges, count=1, why="one call charged 80 times, 400 USD for a 5 USD task"
        )
        self.tolerate("intent.price_exceeded", desk, "the task as a whole cost 80 times its price")
        self.tolerate("spend.velocity", desk, "80 charges in an hour")
        self.tolerate("spend.forecast_breach", desk, "at that rate the monthly limit was hours away")

    def cap_exceeded(self) -> None:
        """(c, plain) 120 USD at the cloud in a month whose hard limit is 100."""
        desk, day = self.mia, 10
        ctx = {"txn": "txn-mia-reserve", "task": "task-mia-reserve"}
        root = self.tell(
            self.world.grant(
                desk.human, desk.lead, actions=["worker.*", "payment.*"], providers=["cloud"], resources=["**"],
                limits=[self.limit_said(desk, "cloud")], expires_in=10 * HOUR, at=self.at(day, 9), source=self.tokens,
                session=self.days["mia", day].session, **ctx,
            )
        )
        charges = []
        for n, pool in enumerate(("kelp", "larch", "moss", "nettle")):
            self.pay(
                desk, day, "cloud", 3_000, f"mia-reserve-{pool}", f"Reserved pool {pool}", grant=root,
                at=self.at(day, 10 + n), call={"operation": "worker.reserve", "args": {"pool": pool}}, said=charges,
                **ctx,
            )
        self.expect("spend.cap_exceeded", desk, *charges, count=1, why="120 USD under a hard monthly limit of 100 USD")
        self.tolerate(
            "spend.velocity", desk, "the first cloud charges of this principal, and forty names in ten minutes"
        )
        self.tolerate("spend.forecast_breach", desk, "the limit was about to be reached, and was")

    def forty_names(self) -> None:
        """(d) Forty cheap names in ten minutes, five of them close to the other organisation's mark."""
        world, desk, day = self.world, self.mia, 13
        at = self.at(day, 11)
        ctx = {"txn": "txn-mia-names", "task": "task-mia-names", "session": self.days["mia", day].session}
        intent = {
            "text": "Register a set of forty cheap names for the campaign", "quantity": 40, "max_price_minor": 6_000,
            "currency": "USD",
        }
        root = self.tell(
            world.grant(
                desk.human, desk.lead, actions=["domain.register"], providers=["registrar"], resources=["**"],
                limits=[self.limit_said(desk, "registrar")], intent=intent, expires_in=2 * HOUR, at=at,
                source=self.tokens, **ctx,
            )
        )
        token = self.tell(
            world.token(root, at=at + SECOND, expires_in=HOUR, source=self.tokens, audience=["registrar"], **ctx)
        )
        close = {
            7: "acme-login.top", 14: "acrne.top", 21: "acme-support.top", 28: "acme-billing.top", 35: "acme-verify.top",
        }
        bought = []
        for n in range(40):
            name = close.get(n, f"gorselark-{n + 1:02}.top")
            registered_at = at + MINUTE + n * 14 * SECOND + timedelta(milliseconds=self.rng.randrange(900))
            self.spend(desk, "registrar", registered_at, 150)
            bought.append(
                self.tell(
                    world.registers(
                        name, price_minor=150, rail="invoice", charge=world.new_id("inv"), at=registered_at,
                        account=self.account(desk, "registrar"), source=self.registrar, grant=root, token=token,
                        client=self.client(desk.lead), **ctx,
                    )
                )
            )
        self.expect("squatting.bulk_registration", desk, *bought, count=1, why="40 names in under ten minutes")
        self.expect(
            "squatting.lookalike", desk, *(bought[n] for n in close), count=None,
            why="five names close to acme, which belongs to another organisation",
        )
        self.tolerate("squatting.campaign", desk, "the forty names share a token, a digit template and ten minutes")

    def widened_scope(self) -> None:
        """(e) A sub-agent is given what its parent never had; nobody acts on it."""
        desk, day = self.mia, 15
        ctx = {"txn": "txn-mia-handover", "task": "task-mia-handover", "source": self.tokens}
        resources = [f"project/{desk.project}/**"]
        root = self.tell(
            self.world.grant(
                desk.human, desk.lead, actions=["worker.deploy"], providers=["cloud"], resources=resources,
                limits=[self.limit_said(desk, "global")], expires_in=8 * HOUR, max_depth=1, redelegate=True,
                at=self.at(day, 10), **ctx,
            )
        )
        child = self.tell(
            self.world.grant(
                desk.lead, desk.worker, parent=root, actions=["worker.deploy", "database.delete"],
                providers=["cloud", "registrar"], resources=resources, expires_in=4 * HOUR, max_depth=0,
                redelegate=False, at=self.at(day, 10, 5), **ctx,
            )
        )
        self.expect(
            "authority.scope_widened", desk, child, why="database.delete and the registrar were never given to nova"
        )

    def late_use(self) -> None:
        """(f) A grant used 300 ms after it was revoked, and another ten minutes after it expired."""
        world = self.world
        for desk, day, rule in (
            (self.ada, 17, "authority.used_after_revocation"), (self.ben, 19, "authority.used_after_expiry"),
        ):
            at = self.at(day, 15)
            slug = f"{desk.human.sub}-{'revoked' if desk is self.ada else 'expired'}"
            ctx = {"txn": f"txn-{slug}", "task": f"task-{slug}", "session": self.days[desk.human.sub, day].session}
            grant = self.tell(
                world.grant(
                    desk.human, desk.lead, actions=["worker.*"], providers=["cloud"],
                    resources=[f"project/{desk.project}/**"], limits=[self.limit_said(desk, "global")], expires_in=HOUR,
                    at=at, source=self.tokens, **ctx,
                )
            )
            if desk is self.ada:
                stops = at + 30 * MINUTE
                self.tell(world.revoke(grant, at=stops, source=self.tokens, **ctx))
                moments = (at + 10 * MINUTE, stops + timedelta(milliseconds=300))
                why = "deployed 300 ms after the grant was revoked"
            else:
                moments = (at + 20 * MINUTE, at + HOUR + 10 * MINUTE)
                why = "deployed ten minutes after the grant expired"
            for n, moment in enumerate(moments):
                thing = f"worker-{slug}-{n}"
                action = {
                    "verb": "worker.deploy", "provider": "cloud", "account": self.account(desk, "cloud"),
                    "target": {"type": "worker", "id": thing}, "resource": f"project/{desk.project}/worker/{thing}",
                }
                act = self.tell(
                    world.event(
                        "deployment.completed", at=moment, source=self.cloud, grant=grant, action=action,
                        client=self.client(desk.lead), **ctx,
                    )
                )
            self.expect(rule, desk, act, why=why)

    def missing_gate(self) -> None:
        """(g) A purchase whose grant asks for a human's yes; it was asked for and never given."""
        bought, _ = self.purchase(self.mia, 21, "thornquay.net", 1_250, is_answered=False, label="mia-no-gate")
        self.expect("authority.gate_missing", self.mia, bought, why="the grant lists purchase; nobody approved")

    def unattributed_act(self) -> None:
        """(g) Something was deleted and nobody says by whom."""
        action = {
            "verb": "bucket.delete", "provider": "cloud", "account": "acct-shared-cloud",
            "target": {"type": "bucket", "id": "bucket-archive"}, "resource": "shared/bucket-archive",
        }
        act = self.tell(
            self.world.event("action.performed", at=self.at(22, 16), source=self.cloud, action=action, txn="txn-nobody")
        )
        self.expect("authority.unattributed", None, act, why="neither actor nor grant nor token")

    def conflict(self) -> None:
        """(g) A provider sends an id a second time with another outcome."""
        first = next(
            signed
            for _, signed, _ in self.told
            if signed.source == "cloud" and signed.at > self.at(23, 0) and signed.claims["sub_id"]["sub"] == "ben"
        )
        self.tell(self.world.equivocated(first, outcome="failure"), at=first.at + BURST, refused="duplicate_conflict")
        self.expect("integrity.duplicate_conflict", None, first, why="one id, two contents, both signed by cloud")

    def forgeries(self) -> None:
        """(g) Three limits raised in transit: the content changed, the signature kept."""
        desk, forged = self.ada, []
        for n in range(3):
            real = self.world.limit(
                "lowered", 1_000, at=self.at(24, 12, n), principal=desk.human, source=self.conductor, txn="txn-forged",
                **self.limit(desk, "cloud"),
            )
            changed = self.world.tampered(real, limit=real.payload["limit"] | {"max_minor": 9_000_000})
            forged.append(self.tell(changed, refused="signature_failed"))
        self.expect(
            "integrity.signature_failed", None, *forged, count=None, why="three deliveries under conductor's key"
        )

    def raised_caps(self) -> None:
        """(c) Two raises by the agents themselves at each of three providers; the sum passes the human's own limit."""
        world, desk, day = self.world, self.ben, 28
        ctx = {"txn": "txn-ben-caps", "task": "task-ben-caps", "session": self.days["ben", day].session}
        names = ["registrar", "cloud", "meter"]
        begins = self.at(day, 9)
        root = self.tell(
            world.grant(
                desk.human, desk.lead, actions=["payment.*", "limit.*"], providers=names, resources=["**"],
                limits=[self.limit_said(desk, "global")], expires_in=9 * HOUR, max_depth=1, redelegate=True, at=begins,
                source=self.tokens, **ctx,
            )
        )
        child = self.tell(
            world.grant(
                desk.lead, desk.worker, parent=root, actions=["limit.*"], providers=names, resources=["**"],
                expires_in=8 * HOUR, max_depth=0, redelegate=False, at=begins + MINUTE, source=self.tokens, **ctx,
            )
        )
        month = f"{begins:%Y-%m}"
        words = iter([f"{topic} {section}" for topic in _TOPICS for section in _SECTIONS])
        charges, raises, reached = [], [], []
        for n, provider in enumerate(names):
            at = begins + 10 * MINUTE + n * 2 * HOUR
            cap = desk.caps[provider]
            for goal, raiser in ((cap, root), (cap + 3_000, child), (cap + 4_000, None)):
                while (left := goal - self.spent["ben", provider, month]) > 0:
                    at += 3 * MINUTE
                    amount = min(left, self.rng.randrange(700, 1_400))
                    self.spend(desk, provider, at, amount)
                    slug = f"ben-caps-{provider}-{len(charges):02}"
                    charges.append(
                        world.payment(
                            "captured", amount, provider=provider, rail="mpp", key=f"key-{slug}", at=at, grant=root,
                            call={"operation": "catalogue.fetch", "args": {"page": next(words)}}, source=self.maestro,
                            action=self.pay_action(desk, provider, slug), **ctx,
                        )
                    )
                    self.tell(charges[-1])
                if raiser is None:
                    continue
                limit = self.limit(desk, provider) | {"set_by": desk.human if goal == cap else desk.lead}
                reached.append(
                    self.tell(
                        world.limit(
                            "reached", goal, at=at + 20 * SECOND, grant=root, source=self.maestro, **limit, **ctx
                        )
                    )
                )
                limit["set_by"] = desk.lead if raiser is root else desk.worker
                raises.append(
                    self.tell(
                        world.limit(
                            "raised", goal + 3_000, at=at + 50 * SECOND, grant=raiser, source=self.maestro, **limit,
                            **ctx,
                        )
                    )
                )
        self.expect("spend.self_raise", desk, *raises, count=None, why="six raises by orion and orion/ops, none by ben")
        self.expect(
            "spend.cap_creep", desk, *reached, *raises, count=None, why="reached and raised twice at each provider"
        )
        self.expect(
            "spend.cross_provider_cap", desk, *charges, count=1,
            why="100 USD at each of three providers, under a global limit of 250 USD",
        )
        self.tolerate("spend.cap_exceeded", desk, "the global limit, read as a limit like any other")
        self.tolerate("spend.velocity", desk, "the first burst of charges of this principal")
        self.tolerate("spend.forecast_breach", desk, "limits were about to be reached, and were")

    def billed_usage(self) -> None:
        """(h) What the meter counted for Mia in two weeks is billed and paid: the invoice adds nothing to it."""
        world, desk = self.world, self.mia
        begins, ends = self.at(2, 0), self.at(16, 0)
        metered = [s for _, s, refused in self.told if not refused and s.source == "meter" and s.type == "usage.metered"
                   and begins <= s.at < ends and s.claims.get("sub_id", {}).get("sub") == "mia"]
        total = sum(s.payload["money"]["amount_minor"] for s in metered)
        bill = {
            "amount_minor": total, "currency": "USD", "rail": "meter", "invoice": "inv-mia-1",
            "period": {"from": int(begins.timestamp()), "to": int(ends.timestamp())},
        }
        about = {"principal": desk.human, "source": self.meter, "txn": "txn-mia-bill",
                 "action": {"provider": "meter", "account": self.account(desk, "meter")}}
        self.tell(world.event("invoice.issued", at=self.at(16, 6), money=bill, **about))
        self.tell(world.event("invoice.paid", at=self.at(19, 6), money=bill, **about))
        spent = sum(cents for (who, provider, _), cents in self.spent.items() if (who, provider) == ("mia", "meter"))
        self.spends.append(Spend(desk.human.key, "meter", "USD", spent, "an invoice covers what was metered and adds nothing"))

    def raise_by_the_human(self) -> None:
        """(i) Mia raises a limit that a grant carries, before it would have been passed: that is silent."""
        world, desk, day = self.world, self.mia, 24
        at = self.at(day, 10)
        ctx = {"txn": "txn-mia-raise", "task": "task-mia-raise", "session": self.days["mia", day].session}
        limit = {"id": "lim-mia-raise", "scope": "grant", "max_minor": 2_000, "currency": "USD", "interval": "month", "enforcement": "hard"}
        grant = self.tell(
            world.grant(
                desk.human, desk.lead, actions=["subscription.*", "payment.*"], providers=["cloud"], resources=["**"],
                limits=[limit], expires_in=6 * HOUR, at=at, source=self.tokens, **ctx,
            )
        )
        raised = limit | {"max_minor": 5_000, "holder": desk.lead.ref, "set_by": desk.human.ref}
        self.tell(
            world.event(
                "limit.raised", at=at + 30 * MINUTE, source=self.conductor, principal=desk.human, actor=desk.human, mode="direct",
                limit=raised, grant=grant.id,
                action={"verb": "limit.raise", "target": {"type": "limit", "id": "lim-mia-raise"}, "resource": "limit/lim-mia-raise"}, **ctx,
            )
        )
        for n, minutes in enumerate((10, 60)):
            self.pay(desk, day, "cloud", 1_800, f"mia-raise-{n}", "Build minutes", grant=grant, at=at + minutes * MINUTE,
                     call={"operation": "build.minutes", "args": {"pack": f"pack-{n}"}})

    def refusal(self) -> None:
        """(j) The agent asks whether it may delete a database, Ben says no, and it does it all the same."""
        world, desk, day = self.world, self.ben, 23
        at = self.at(day, 15)
        slug = "ben-refused"
        acting = {
            "txn": f"txn-{slug}", "task": f"task-{slug}", "session": self.days["ben", day].session,
            "grant": self.standing["ben"], "token": self.days["ben", day].token, "request_id": "req-ben-refused",
        }
        action = {
            "verb": "database.delete", "provider": "cloud", "account": self.account(desk, "cloud"), "irreversible": True,
            "target": {"type": "database", "id": "database-orders"}, "resource": f"project/{desk.project}/database/database-orders",
        }
        self.tell(world.event("approval.requested", at=at, source=self.tokens, action=action, outcome="pending", **acting))
        no = {name: value for name, value in acting.items() if name not in ("grant", "token")}
        self.tell(
            world.event(
                "approval.decided", at=at + 4 * MINUTE, source=self.tokens, principal=desk.human, actor=desk.human, mode="direct",
                action=action, outcome="denied", **no,
            )
        )
        done = self.tell(
            world.event("action.performed", at=at + 9 * MINUTE, source=self.cloud, action=action, client=self.client(desk.lead), **acting)
        )
        self.expect("authority.refused_and_done", desk, done, why="Ben had said no to exactly this, five minutes before")

    def stop(self) -> None:
        """(k) Mia stops her agent. The provider says that it heard, refuses one act, and lets three pass later."""
        world, desk, day = self.world, self.mia, 26
        at = self.at(day, 15)
        slug = "mia-stop"
        ctx = {"txn": f"txn-{slug}", "task": f"task-{slug}", "session": self.days["mia", day].session}
        grant = self.tell(
            world.grant(
                desk.human, desk.lead, actions=["worker.*"], providers=["cloud"], resources=[f"project/{desk.project}/**"],
                limits=[self.limit_said(desk, "global")], expires_in=3 * HOUR, at=at, source=self.tokens, **ctx,
            )
        )
        stops = at + 20 * MINUTE
        self.tell(world.revoke(grant, at=stops, source=self.tokens, **ctx))
        self.tell(world.revoke(grant, at=stops + 5 * SECOND, source=self.cloud, **ctx))
        passed = []
        for n, (after, type, outcome) in enumerate((
            (-10 * MINUTE, "deployment.completed", "success"), (30 * SECOND, "action.denied", "denied"),
            (10 * MINUTE, "deployment.completed", "success"), (12 * MINUTE, "deployment.completed", "success"),
            (15 * MINUTE, "deployment.completed", "success"),
        )):
            action = {
                "verb": "worker.deploy", "provider": "cloud", "account": self.account(desk, "cloud"),
                "target": {"type": "worker", "id": f"worker-stop-{n}"}, "resource": f"project/{desk.project}/worker/worker-stop-{n}",
            }
            act = self.tell(
                world.event(type, at=stops + after, source=self.cloud, grant=grant, action=action, outcome=outcome,
                            client=self.client(desk.lead), **ctx)
            )
            if after > MINUTE:
                passed.append(act)
        self.expect("authority.used_after_revocation", desk, *passed, count=1, why="three acts after a stop that the provider knew of")

    def retries(self) -> None:
        """Two deliveries in a hundred come again later, byte for byte: the first answer was lost on the way."""
        accepted = [(key, signed) for key, signed, refused in self.told if not refused]
        for key, signed in self.rng.sample(accepted, len(accepted) // 50):
            self.told.append(((key[0] + BURST, 0, self.rank[signed.source], *key[3:]), signed, None))

    # -- small things

    def tell(
        self, signed: Signed, *, late: bool = False, at: datetime | None = None, refused: str | None = None
    ) -> Signed:
        """Queue a delivery: its source's next burst, or (`late`) after everybody else's."""
        happened = at or signed.at
        burst = happened - (happened - self.first_midnight) % BURST
        assert self.start <= happened <= self.world.now, "outside the thirty days"
        key = (burst, int(late), self.rank[signed.source], happened, len(self.told))
        self.told.append((key, signed, refused))
        return signed

    def expect(self, rule: str, desk: _Desk | None, *events: Signed, count: int | None = 1, why: str) -> None:
        principal = desk.human.key if desk else None
        jtis = tuple(event.jti for event in events)
        self.expected.append(Expected(rule, principal, count, events[0].claims.get("txn"), jtis, why))

    def tolerate(self, rule: str, desk: _Desk, why: str) -> None:
        self.tolerated.append(Tolerated(rule, desk.human.key, why))

    def at(self, day: int, hour: int, minute: int = 0) -> datetime:
        return self.first_midnight + timedelta(days=day, hours=hour, minutes=minute)

    def spend(self, desk: _Desk, provider: str, at: datetime, amount: int) -> None:
        self.spent[desk.human.sub, provider, f"{at:%Y-%m}"] += amount

    def pay(
        self, desk: _Desk, day: int, provider: str, amount: int, slug: str, text: str, *, call: dict,
        grant: Signed | None = None, at: datetime | None = None, authority: str | None = None, in_steps: bool = False,
        said: list | None = None, **ctx: str,
    ) -> tuple[dict, datetime]:
        """Authorize if `in_steps`, capture, be told by Stripe, settle. Returns Stripe's charge object and its time."""
        world = self.world
        at = at or self.at(day, 15) + timedelta(seconds=self.rng.randrange(1200))
        charge, key = world.new_id("ch"), f"key-{slug}"
        ctx = {"txn": f"txn-{slug}", "task": f"task-{slug}", "session": self.days[desk.human.sub, day].session} | ctx
        common = {"charge": charge, "key": key, "call": call, "source": desk.orchestrator, **ctx}
        if grant is None:
            common |= {"grant": self.standing[desk.human.sub], "token": self.days[desk.human.sub, day].token}
        else:
            common["grant"] = grant
        action = self.pay_action(desk, provider, slug)
        if in_steps:
            hold = action | {"verb": "payment.authorize"}
            self.tell(world.payment("authorized", amount, at=at - 2 * SECOND, action=hold, **common))
        self.spend(desk, provider, at, amount)
        captured = self.tell(world.payment("captured", amount, at=at, action=action, authority=authority, **common))
        paid = self.charge_succeeded(desk, charge, amount, key, at + 2 * SECOND, text, ctx)
        if in_steps:
            done = action | {"verb": "payment.settle"}
            self.tell(world.payment("settled", amount, at=at + HOUR, action=done, **common))
        if said is not None:
            said.append(captured)
        return paid.payload["data"]["object"], at

    def pay_action(self, desk: _Desk, provider: str, slug: str) -> dict:
        return {
            "verb": "payment.capture", "provider": provider, "account": self.account(desk, provider),
            "target": {"type": "order", "id": f"order-{slug}"}, "resource": f"order/order-{slug}",
        }

    def charge_succeeded(
        self, desk: _Desk, charge: str, amount: int, key: str, at: datetime, text: str, ctx: dict
    ) -> Signed:
        obj = {
            "id": charge, "object": "charge", "amount": amount, "amount_captured": amount, "amount_refunded": 0,
            "balance_transaction": charge.replace("ch_", "txn_"), "captured": True, "created": int(at.timestamp()),
            "currency": "usd", "customer": f"cus_{desk.human.sub}", "description": text, "disputed": False,
            "failure_code": None, "failure_message": None, "invoice": None, "livemode": True,
            "metadata": {
                "principal": "|".join(desk.human.key), "actor": "|".join(desk.lead.key), "txn": ctx["txn"],
                "task": ctx["task"],
            },
            "outcome": {"network_status": "approved_by_network", "risk_level": "normal", "type": "authorized"},
            "paid": True, "payment_intent": charge.replace("ch_", "pi_"),
            "payment_method_details": {
                "card": {"brand": "visa", "country": "US", "funding": "credit", "last4": "4242", "network": "visa"},
                "type": "card",
            },
            "refunded": False, "status": "succeeded",
        }
        return self.tell(self.world.stripe_event("charge.succeeded", obj, at=at, idempotency_key=key))

    def refund(self, charge: dict, amount: int, at: datetime) -> None:
        self.tell(
            self.world.stripe_event(
                "charge.refunded", charge | {"amount_refunded": amount}, at=at, previous={"amount_refunded": 0},
                idempotency_key=f"refund-{charge['id']}",
            )
        )

    def dispute(self, paid: Signed) -> None:
        """Ada complains about the name nobody asked for, through the card network."""
        charge = paid.payload["data"]["object"]
        at = paid.at + timedelta(days=2)
        obj = {
            "id": charge["id"].replace("ch_", "dp_"), "object": "dispute", "amount": charge["amount"],
            "charge": charge["id"], "created": int(at.timestamp()), "currency": "usd",
            "evidence": {"access_activity_log": None, "service_documentation": None, "uncategorized_text": None},
            "evidence_details": {
                "due_by": int((at + timedelta(days=30)).timestamp()), "has_evidence": False, "past_due": False,
                "submission_count": 0,
            },
            "is_charge_refundable": True, "livemode": True, "metadata": {}, "reason": "product_unacceptable",
            "payment_intent": charge["payment_intent"], "status": "needs_response",
        }
        self.tell(self.world.stripe_event("charge.dispute.created", obj, at=at))

    def limit(self, desk: _Desk, what: str) -> dict:
        """The arguments of one of the desk's own limits: the human holds the global one, the lead agent the others."""
        shared = {"id": f"lim-{desk.human.sub}-{what}", "set_by": desk.human}
        if what == "global":
            return shared | {"scope": "global", "holder": desk.human}
        return shared | {"scope": "provider", "provider": what, "holder": desk.lead}

    def limit_said(self, desk: _Desk, what: str) -> dict:
        """The same limit as a grant lists it."""
        args = self.limit(desk, what)
        return limit_object(args.pop("id"), desk.caps[what], **args)

    def account(self, desk: _Desk, provider: str) -> str:
        return f"acct-{desk.human.sub}-{provider}"

    def client(self, party: Party) -> dict[str, str]:
        """Every agent calls from one address of its own (RFC 5737)."""
        return {"ip": f"198.51.100.{10 + self.agents.index(party)}", "user_agent": f"{party.sub.partition('/')[0]}/1.0"}
