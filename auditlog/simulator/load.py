"""Many distinct signed events for bench: request bodies of whole batches, signed ahead of the clock.

An event's claims are some 590 bytes, as those of ordinary metered calls are; as a compact JWS it is some 980.
"""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import orjson

from auditlog.simulator.signing import Signer
from auditlog.simulator.world import EVENT_URN, SourceSpec, World, numeric

ISSUER = "https://load.example"
NAME = "load"
HUMANS, AGENTS = 100, 1_000
POOL_FROM = 20_000  # events; below this starting processes costs more than it saves


def load_source(*, seed: int = 1, issuer: str = ISSUER, name: str = NAME) -> SourceSpec:
    """The source to configure before the load is sent."""
    return SourceSpec(name, "set", issuer, jwks=Signer(issuer, f"{NAME}-1", seed).jwks())


def signed_batches(
    n_events: int,
    batch_size: int,
    *,
    seed: int = 1,
    issuer: str = ISSUER,
    tenant: str = "default",
    now: datetime,
    first: int = 0,
    processes: int | None = None,
) -> Iterator[bytes]:
    """Yield `{"sets": {jti: SET}}` bodies of `n_events` in all, in order. `first` numbers the first event.

    The same arguments give the same bytes; another `first` (or seed) gives other events of the same source.
    """
    jobs = [
        (start, min(batch_size, first + n_events - start), seed, issuer, tenant, now.timestamp())
        for start in range(first, first + n_events, batch_size)
    ]
    processes = processes or (os.cpu_count() or 1 if n_events >= POOL_FROM else 1)
    if processes == 1:
        yield from map(_body, jobs)
        return
    # spawn: the caller may hold threads and database connections that a fork would share.
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_body, jobs, chunksize=max(1, min(16, len(jobs) // (processes * 4))))


def signed_chains(*, seed: int = 1, tenant: str = "default", now: datetime) -> Iterator[bytes]:
    """Bodies with the grants that the load acts under: each human lets a lead act, who lets each agent act."""
    world = World(seed=seed, tenant=tenant, now=now - timedelta(days=2), issued_at=now)
    world.source(NAME, ISSUER)
    for human in range(HUMANS):
        ada, lead = world.human(f"human-{human:03}", issuer=ISSUER), world.agent(f"lead-{human:03}", issuer=ISSUER)
        scope = {"actions": ["tensor.*"], "providers": ["meter"], "resources": ["**"]}
        grants = [root := world.grant(ada, lead, id=f"root-{human:03}", redelegate=True, **scope)]
        for agent in range(human, AGENTS, HUMANS):
            held = world.agent(f"agent-{agent:04}", issuer=ISSUER)
            grants.append(
                world.grant(lead, held, id=f"grant-{agent:04}", parent=root, **scope | {"actions": ["tensor.embed"]})
            )
        yield orjson.dumps({"sets": {signed.jti: signed.raw.decode() for signed in grants}})


def signed_sets(n_events: int, *, seed: int = 1, issuer: str = ISSUER, tenant: str = "default", now: datetime,
                first: int = 0) -> Iterator[tuple[str, bytes]]:  # fmt: skip
    """Yield (jti, compact JWS) one by one: the same events as in the batches."""
    signer = Signer(issuer, f"{NAME}-1", seed)
    base = int(now.astimezone(UTC).timestamp())
    for n in range(first, first + n_events):
        jti = f"load-{seed}-{n:010}"
        yield jti, signer.sign_set(_claims(n, jti, base, issuer, tenant, now))


def _body(job: tuple[int, int, int, str, str, float]) -> bytes:
    start, count, seed, issuer, tenant, timestamp = job
    now = datetime.fromtimestamp(timestamp, UTC)
    sets = signed_sets(count, seed=seed, issuer=issuer, tenant=tenant, now=now, first=start)
    return orjson.dumps({"sets": {jti: compact.decode() for jti, compact in sets}})


def _claims(n: int, jti: str, base: int, issuer: str, tenant: str, now: datetime) -> dict:
    """A metered call of one of a thousand agents, for one of a hundred humans, under its grant."""
    human, agent = f"human-{n % HUMANS:03}", f"agent-{n % AGENTS:04}"
    return {
        "iss": issuer,
        "iat": base,
        "jti": jti,
        "aud": [f"urn:answerable:{tenant}"],
        "toe": numeric(now - timedelta(microseconds=(n * 7919) % 86_400_000_000)),
        "sub_id": {"format": "iss_sub", "iss": issuer, "sub": human},
        "events": {
            EVENT_URN.format("usage.metered"): {
                "outcome": "success",
                "actor": {"iss": issuer, "sub": agent, "kind": "agent"},
                "grant": f"grant-{n % AGENTS:04}",
                "action": {"verb": "tensor.embed", "provider": "meter", "target": {"type": "call", "id": f"c{n}"}},
                "call": {"idempotency_key": f"k-{_key(n)}"},
                "money": {
                    "amount_minor": 3 + n % 40,
                    "currency": "USD",
                    "phase": "captured",
                    "rail": "mpp",
                    "charge": f"mtr-{n}",
                },
            }
        },
    }


def _key(n: int) -> str:
    """A key that looks like one and repeats for no other number (an odd factor is a bijection modulo 2**64)."""
    return f"{(n * 0x9E3779B97F4A7C15) % 2**64:016x}"
