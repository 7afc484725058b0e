"""A busy record for `bench detect`: something for every rule, most of it in order. Signed as the load of `load.py` is.

Of a hundred acts some eighty are calls with an operation and arguments, ten purchases of which a payment system tells half,
two are names, and one is of a kind that is found. `hot` gives all of them to one principal, agent, token and key.
"""

import random
from collections.abc import Iterator
from datetime import datetime, timedelta

import orjson

from auditlog.simulator.signing import Signer
from auditlog.simulator.world import EVENT_URN, SourceSpec, World, numeric

ISSUER, RAIL, TOKENS = "https://busy.example", "https://rail.example", "https://tokens.example"
NAMES = {"busy": ISSUER, "rail": RAIL}
HUMANS, AGENTS = 300, 1_000
SPAN = timedelta(days=30)
ORDERS = ("late", "reverse")  # 1 % late, by one second to thirty days; or the last first


def sources() -> list[SourceSpec]:
    return [
        SourceSpec(name, "set", issuer, jwks=Signer(issuer, f"{name}-1", 1).jwks()) for name, issuer in NAMES.items()
    ]


def standing(*, tenant: str, now: datetime) -> Iterator[tuple[str, bytes]]:
    """(source, body): who may do what, with what it may cost. Everybody's limits are wide, so that few are passed."""
    world = World(seed=1, tenant=tenant, now=now - SPAN - timedelta(days=1), issued_at=now)
    world.source("busy", ISSUER)
    for number in range(HUMANS):
        human, lead = world.human(f"human-{number:03}", issuer=ISSUER), world.agent(f"lead-{number:03}", issuer=ISSUER)
        limits = [
            {"scope": "provider", "provider": "meter", "max_minor": 50_000_000, "currency": "USD", "interval": "month"}
        ]
        signed = [
            root := world.grant(
                human, lead, id=f"root-{number:03}", redelegate=True, actions=["**"], resources=["**"], limits=limits
            )
        ]
        signed.append(
            world.limit(
                "set", 90_000_000, holder=human, set_by=human, id=f"cap-{number:03}", scope="global", principal=human
            )
        )
        for agent in range(number, AGENTS, HUMANS):
            held = world.agent(f"agent-{agent:04}", issuer=ISSUER)
            below = [{"scope": "grant", "max_minor": 20_000_000, "currency": "USD", "interval": "day"}]
            grant = world.grant(lead, held, id=f"grant-{agent:04}", parent=root, actions=["tensor.*", "domain.register", "plan.buy"],
                                providers=["meter", "registrar", "store"], resources=["**"], limits=below)  # fmt: skip
            obj = {
                "jti": f"token-{agent:04}",
                "grant": f"grant-{agent:04}",
                "subject": human.full,
                "actor": held.full,
                "cnf": {"jkt": f"key-{agent:04}"},
            }
            signed += [grant, world.event("token.issued", token=obj, principal=human, actor=lead)]
        yield "busy", orjson.dumps({"sets": {each.jti: each.raw.decode() for each in signed}})


def bodies(first: int, count: int, *, total: int, tenant: str, now: datetime, hot: bool = False, order: str = "late",
           size: int = 1_000) -> Iterator[tuple[str, bytes, int]]:  # fmt: skip
    """(source, body, events) of the statements `first` to `first + count` of `total`, the same whichever part is asked for."""
    signers = {name: Signer(issuer, f"{name}-1", 1) for name, issuer in NAMES.items()}
    waiting: dict[str, dict[str, str]] = {name: {} for name in NAMES}
    for n in range(first, first + count):
        place = n if order == "late" else total - 1 - n
        for source, claims in _told(place, total, tenant, now, hot=hot, late=order == "late"):
            waiting[source][claims["jti"]] = signers[source].sign_set(claims).decode()
        for source, sets in waiting.items():
            if len(sets) >= size:
                yield source, orjson.dumps({"sets": sets}), len(sets)
                waiting[source] = {}
    for source, sets in waiting.items():
        if sets:
            yield source, orjson.dumps({"sets": sets}), len(sets)


def _told(n: int, total: int, tenant: str, now: datetime, *, hot: bool, late: bool) -> Iterator[tuple[str, dict]]:
    chance = random.Random(n)
    number = 0 if hot else chance.randrange(AGENTS)
    agent, human = f"agent-{number:04}", f"human-{number % HUMANS:03}"
    at = now - SPAN + SPAN * (n / total)
    if late and chance.random() < 0.01:
        at -= timedelta(seconds=2 ** chance.uniform(0, 21.3))
    said = {"outcome": "success", "actor": {"iss": ISSUER, "sub": agent, "kind": "agent"}, "session": f"s-{number}-{n // 5_000}",
            "client": {"ip": f"198.51.{number % 250}.{chance.randrange(1, 200)}", "user_agent": f"bot/{number % 7}"}}  # fmt: skip
    said |= {"grant": f"grant-{number:04}"} if chance.random() < 0.6 else {"token": f"token-{number:04}"}
    money = {"amount_minor": 3 + n % 40, "currency": "USD", "phase": "captured", "rail": "mpp", "charge": f"ch-{n}"}
    call = {"idempotency_key": f"k-{n}"}
    draw = chance.random()
    second = None
    if draw < 0.01:  # of a kind that is found
        kind, said, money, call = _bad(n, number, said, money, call)
    elif draw < 0.03:
        kind = "domain.registered"
        name = f"{chance.choice(_WORDS)}-{chance.choice(_WORDS)}-{n:x}.example"
        said["action"] = {
            "verb": "domain.register",
            "provider": "registrar",
            "target": {"type": "domain", "id": name},
            "resource": name,
        }
    elif draw < 0.13:
        kind = "resource.provisioned"
        said["action"] = {"verb": "plan.buy", "provider": "store", "target": {"type": "plan", "id": f"plan-{n}"}}
        if draw < 0.08:
            second = {"outcome": "success", "money": money}
    else:
        kind = "usage.metered"
        call |= {"operation": "tensor.embed", "args": {"text": f"{chance.choice(_WORDS)} {n}", "model": "m"}}
        said["action"] = {"verb": "tensor.embed", "provider": "meter", "target": {"type": "call", "id": f"c{n}"}}
    yield "busy", _claims(ISSUER, f"b-{n:010}", kind, said | {"money": money, "call": call}, at, tenant, now, human)
    if second:
        yield (
            "rail",
            _claims(RAIL, f"r-{n:010}", "payment.captured", second, at + timedelta(seconds=3), tenant, now, ""),
        )


def _bad(n: int, number: int, said: dict, money: dict, call: dict) -> tuple[str, dict, dict, dict]:
    """Calls again and again, acts beyond the grant, of nobody's grant, of nobody, and for more than a limit allows."""
    action = {"verb": "tensor.embed", "provider": "meter", "target": {"type": "call", "id": f"c{n}"}}
    match n % 4:
        case 0:
            call = call | {"operation": "tensor.embed", "args": {"text": f"the same {n // 40_000}", "model": "m"}}
            return "usage.metered", said | {"action": action}, money, call
        case 1:
            return (
                "action.performed",
                said | {"action": action | {"verb": "bucket.delete", "provider": "cloud"}},
                {},
                call,
            )
        case 2:
            said = {name: value for name, value in said.items() if name not in ("grant", "token")}
            return "usage.metered", said | {"action": action, "grant": f"nobody-{number % 50}"}, money, call
    return (
        "payment.captured",
        {"outcome": "success", "action": {"provider": "store", "target": {"type": "plan", "id": f"x{n}"}}},
        money,
        call,
    )


_WORDS = "harbour orchard lantern meadow quarry saddle thicket willow anvil cinder drumlin ember".split()


def _claims(iss: str, jti: str, kind: str, said: dict, at: datetime, tenant: str, now: datetime, human: str) -> dict:
    said = {name: value for name, value in said.items() if value}
    claims = {
        "iss": iss,
        "iat": int(now.timestamp()),
        "jti": jti,
        "aud": [f"urn:answerable:{tenant}"],
        "toe": numeric(at),
    }
    if human and "actor" in said:
        claims["sub_id"] = {"format": "iss_sub", "iss": ISSUER, "sub": human}
    return claims | {"events": {EVENT_URN.format(kind): said}}
