"""A session at one orchestrator that goes on at another: each act told by three sources, none of them Stripe."""

from datetime import timedelta

MINUTE = timedelta(minutes=1)


def set_up(world, *, prefix=""):
    """Ada's agent at Conductor hands work to an agent at Maestro; a cloud and a rail tell of what both of them bought."""
    world.conductor = world.source(f"{prefix}conductor", f"https://{prefix}conductor.example")
    world.maestro = world.source(f"{prefix}maestro", f"https://{prefix}maestro.example")
    world.cloud = world.source(
        f"{prefix}cloud", f"https://{prefix}cloud.example", provider="cloud", layers=["provider", "orchestration"]
    )
    world.rail = world.source(f"{prefix}railbank", f"https://{prefix}rail.example", layers=["money"])
    world.shop = world.source(f"{prefix}shop", f"https://{prefix}shop.example", provider="shop", layers=["provider"])
    world.ada = world.human("ada", issuer="https://id.acme.example")
    world.lead = world.agent("lead", issuer=world.conductor.issuer)
    world.helper = world.agent("helper", issuer=world.maestro.issuer)
    world.at = world.now - timedelta(hours=5)
    at = world.at
    a = {"session": "joined-a"}
    world.root = world.grant(
        world.ada,
        world.lead,
        actions=["**"],
        resources=["**"],
        redelegate=True,
        at=at,
        source=world.conductor,
        txn="txn-root",
    )
    world.over = world.grant(
        world.lead,
        world.helper,
        parent=world.root,
        actions=["**"],
        resources=["**"],
        at=at + MINUTE,
        source=world.conductor,
        txn="txn-a",
        **a,
    )
    world.first = world.told_by_three("db-1", orchestrator=world.conductor, provider=world.cloud, rail=world.rail, amount_minor=900, grant=world.root,
                                      key="key-1", charge="rb-1", request_id="rq-1", at=at + 2 * MINUTE, txn="txn-a", **a)  # fmt: skip
    world.second = world.told_by_three("db-2", orchestrator=world.maestro, provider=world.cloud, rail=world.rail, amount_minor=500, grant=world.over,
                                       key="key-2", charge="rb-2", request_id="rq-2", at=at + 3 * MINUTE, session="joined-b")  # fmt: skip
    ceiling = {"amount_minor": 5_000, "currency": "USD", "phase": "ceiling", "rail": "rb", "authority": "auth-1"}
    world.ceiling = world.event(
        "payment.authority_granted", source=world.conductor, at=at + 4 * MINUTE, grant=world.root, money=ceiling, **a
    )
    world.held = world.payment("authorized", 700, charge="rb-3", key="key-3", rail="rb", currency="EUR", source=world.maestro, grant=world.over,
                               at=at + 5 * MINUTE, session="joined-b")  # fmt: skip
    world.drawn = world.payment("captured", 1_000, charge="rb-4", key="key-4", rail="rb", authority="auth-1", source=world.conductor,
                                grant=world.root, at=at + 6 * MINUTE, **a)  # fmt: skip
    # A session of its own that shares only the standing grant.
    world.other = world.told_by_three("db-9", orchestrator=world.conductor, provider=world.cloud, rail=world.rail, amount_minor=111, grant=world.root,
                                      key="key-9", charge="rb-9", request_id="rq-9", at=at + 7 * MINUTE, session="joined-other")  # fmt: skip
    return [world.root, world.over, *world.first, *world.second, world.ceiling, world.held, world.drawn, *world.other]
