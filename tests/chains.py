"""Valid delegation chains, and single mutations of them: what every rule about authority is tried against.

A chain is a list of grants that only narrow, the tokens under them, and one act that all of them allow. A mutation
breaks exactly one thing, and says which rule must see it.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from auditlog.simulator.world import Party, Signed
from tests.world import TenantWorld

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
PROVIDERS = ("registrar", "cloud", "meter", "mail", "store")
VERBS = ("worker.deploy", "worker.read", "dns.write", "bucket.put", "mail.send", "queue.push")


@dataclass
class GrantPlan:
    subject: Party
    actor: Party
    actions: list[str]
    providers: list[str] | None
    resources: list[str]
    deny: dict | None
    limit_minor: int | None
    expires_in: timedelta | None  # after its own time
    audience: list[str] | None
    max_depth: int | None
    redelegate: bool | None
    jkt: str | None
    at: timedelta  # before the act
    gates: list[str] | None = None
    is_sent: bool = True
    states_beginning: bool = True
    told: timedelta | None = None  # after the act, and its source does not say when it was given


@dataclass
class ChainPlan:
    """Everything that is said of one chain. Times are relative to the act."""

    number: int
    grants: list[GrantPlan]
    tokens: list[dict]  # arguments of World.token, by grant position
    verb: str
    provider: str
    resource: str
    actor: list[Party]
    shows_token: bool
    act_delay: timedelta = timedelta(0)
    attestation: dict | None = None
    more: list[Callable[[TenantWorld, list[Signed], list[Signed]], Signed]] = field(default_factory=list)
    parent_of: dict[int, int] = field(default_factory=dict)  # grant position -> another parent than the one before it


def valid_chain(rng: random.Random, number: int) -> ChainPlan:
    """A chain of one to seven grants in which nothing is wrong. Every party, id and resource is its own."""
    issuer = f"https://id{number}.example"
    human = Party(issuer, f"human{number}", "human")
    agents = [Party(f"https://bots{number}.example", f"agent{number}.{n}", "agent") for n in range(rng.randint(1, 7))]
    depth = len(agents)
    verb, provider = rng.choice(VERBS), rng.choice(PROVIDERS)
    resource = f"acme{number}.io"
    family = verb.partition(".")[0]
    wide = rng.random() < 0.3
    actions = ["**"] if wide else [f"{family}.*", *rng.sample(VERBS, 2)]
    providers = None if rng.random() < 0.5 else list(PROVIDERS)
    resources = ["**"] if wide else [resource, f"*.{resource}"]
    audience = None if rng.random() < 0.5 else list(PROVIDERS)
    limit = rng.choice((None, 100_000))
    life = rng.choice((None, 40 * HOUR))
    may_go = rng.choice((None, depth + 2))
    key = f"key-{number}" if rng.random() < 0.4 else None
    deny = {"actions": ["account.close"], "resources": [f"secret.{resource}"]} if rng.random() < 0.4 else None
    grants, giver = [], human
    for place, agent in enumerate(agents):
        last = place == depth - 1
        if place and rng.random() < 0.5:
            actions = [verb]
        if place and providers and rng.random() < 0.5:
            providers = sorted({provider, *rng.sample(providers, max(1, len(providers) // 2))})
        if place and rng.random() < 0.5:
            resources = [resource]
        if place and audience and rng.random() < 0.5:
            audience = sorted({provider, *rng.sample(audience, max(1, len(audience) // 2))})
        if place and limit and rng.random() < 0.5:
            limit -= rng.randint(1, 100)
        if place and life:
            life -= HOUR * (0.1 + rng.random())
        if place and may_go is not None and rng.random() < 0.7:
            may_go = max(depth - 1 - place, may_go - 1)
        stated = place == 0 or rng.random() < 0.7  # what a child does not state it inherits
        grants.append(
            GrantPlan(
                giver, agent, list(actions) if stated else [], list(providers) if providers and stated else None,
                list(resources) if stated else [], deny if place == 0 else None, limit if place == 0 or rng.random() < 0.5 else None,
                life if place == 0 or rng.random() < 0.5 else None, list(audience) if audience and (place == 0 or rng.random() < 0.5) else None,
                may_go if place == 0 or rng.random() < 0.5 else None,
                (True if not last else rng.choice((True, False))) if place == 0 or last or rng.random() < 0.5 else None,
                f"{key}-{place}" if key else None, timedelta(hours=20) - MINUTE * place, states_beginning=rng.random() < 0.6,
                told=MINUTE * rng.randint(1, 50) if rng.random() < 0.15 else None,
            )
        )  # fmt: skip
        giver = agent
    shows_token = rng.random() < 0.6
    tokens = []
    if shows_token:
        for place in range(depth - min(depth, rng.randint(1, 3)), depth):
            bound = {"cnf": {"jkt": grants[place].jkt}} if grants[place].jkt and rng.random() < 0.7 else {}
            tokens.append(
                {
                    "place": place,
                    "expires_in": 12 * HOUR,
                    "scope": "read write" if place == depth - 1 else "read write admin",
                    **bound,
                }
            )
    attestation = {"type": "jkt", "digest": grants[-1].jkt} if grants[-1].jkt and rng.random() < 0.5 else None
    actor = [*agents] if rng.random() < 0.5 else [agents[-1]]
    return ChainPlan(number, grants, tokens, verb, provider, resource, actor, shows_token, attestation=attestation)


def say(world: TenantWorld, plan: ChainPlan, **act_says) -> tuple[list[Signed], Signed]:
    """Every event of the chain, oldest first, and the act. `act_says` are more arguments of the act's event."""
    act_at = world.now - HOUR
    granted: list[Signed] = []
    said: list[Signed] = []
    for place, grant in enumerate(plan.grants):
        at = act_at - grant.at
        limits = [
            {
                "id": f"l{plan.number}.{place}",
                "scope": "grant",
                "max_minor": grant.limit_minor,
                "currency": "USD",
                "interval": "month",
            }
        ]
        scope = {
            "actions": grant.actions,
            "providers": grant.providers,
            "resources": grant.resources,
            "deny": grant.deny,
        }
        parent = granted[plan.parent_of.get(place, place - 1)] if place else None
        signed = world.grant(
            grant.subject, grant.actor, parent=parent, limits=limits if grant.limit_minor != 0 and grant.limit_minor is not None else None,
            expires_in=grant.expires_in, audience=grant.audience, max_depth=grant.max_depth, redelegate=grant.redelegate,
            gates=grant.gates, cnf={"jkt": grant.jkt} if grant.jkt else None, at=at,
            states_beginning=grant.states_beginning, told_at=act_at + grant.told if grant.told is not None else None,
            **(scope if grant.actions or grant.providers or grant.resources or grant.deny else {}),
        )  # fmt: skip
        granted.append(signed)
        if grant.is_sent:
            said.append(signed)
    tokens: list[Signed] = []
    for arguments in plan.tokens:
        arguments = dict(arguments)
        grant = granted[arguments.pop("place")]
        at = act_at + arguments.pop("after", MINUTE * len(tokens) - 2 * HOUR)
        tokens.append(world.token(grant, parent=tokens[-1] if tokens else None, at=at, **arguments))
    said += tokens
    act = world.event(
        "action.performed", grant=granted[-1], token=tokens[-1] if plan.shows_token and tokens else None, actor=plan.actor,
        action={"verb": plan.verb, "provider": plan.provider, "resource": plan.resource}, at=act_at + plan.act_delay,
        **({"attestation": plan.attestation} if plan.attestation else {}), **act_says,
    )  # fmt: skip
    said += [more(world, granted, tokens) for more in plan.more]
    return [*said, act], act


# --- mutations ------------------------------------------------------------------------------------------------------

Mutation = Callable[[random.Random, ChainPlan], str | None]  # the rule that must see it; None: does not fit this chain


def _hop(rng: random.Random, plan: ChainPlan) -> int | None:
    return rng.randrange(1, len(plan.grants)) if len(plan.grants) > 1 else None


def _stated(plan: ChainPlan, name: str, hop: int):
    """What stands above the hop, nearest first."""
    return next((value for g in reversed(plan.grants[:hop]) if (value := getattr(g, name))), None)


def wider_action(rng, plan):
    hop = _hop(rng, plan)
    if hop is None or "**" in _stated(plan, "actions", hop):
        return None
    plan.grants[hop].actions = [*_stated(plan, "actions", hop), "database.delete"]
    plan.grants[hop].providers = plan.grants[hop].providers or _stated(plan, "providers", hop)
    plan.grants[hop].resources = plan.grants[hop].resources or _stated(plan, "resources", hop)
    return "authority.scope_widened"


def wider_resource(rng, plan):
    hop = _hop(rng, plan)
    if hop is None or "**" in _stated(plan, "resources", hop):
        return None
    plan.grants[hop].actions = plan.grants[hop].actions or _stated(plan, "actions", hop)
    plan.grants[hop].providers = plan.grants[hop].providers or _stated(plan, "providers", hop)
    plan.grants[hop].resources = [plan.resource, f"other{plan.number}.io"]
    return "authority.scope_widened"


def wider_audience(rng, plan):
    hop = _hop(rng, plan)
    above = hop and _stated(plan, "audience", hop)
    if not above:
        return None
    plan.grants[hop].audience = [*above, "elsewhere"]
    return "authority.scope_widened"


def given_by_a_stranger(rng, plan):
    hop = _hop(rng, plan)
    if hop is None:
        return None
    plan.grants[hop].subject = Party("https://stranger.example", f"stranger{plan.number}", "agent")
    return "authority.scope_widened"


def wider_limit(rng, plan):
    hop = _hop(rng, plan)
    above = hop and [g.limit_minor for g in plan.grants[:hop] if g.limit_minor]
    if not above:
        return None
    plan.grants[hop].limit_minor = min(above) + rng.randint(1, 10_000)
    return "authority.limit_widened"


def outlives(rng, plan):
    hop = _hop(rng, plan)
    if hop is None or not any(g.expires_in for g in plan.grants[:hop]):
        return None
    plan.grants[hop].expires_in = 41 * HOUR
    return "authority.outlives_parent"


def token_outlives(rng, plan):
    if not plan.tokens or not any(g.expires_in for g in plan.grants[: plan.tokens[-1]["place"] + 1]):
        return None
    plan.tokens[-1]["expires_in"] = 60 * HOUR
    return "authority.outlives_parent"


def token_scope(rng, plan):
    if len(plan.tokens) < 2:
        return None
    plan.tokens[-1]["scope"] += " root"
    return "authority.scope_widened"


def deeper(rng, plan):
    hop = _hop(rng, plan)
    above = hop and [g.max_depth for g in plan.grants[:hop] if g.max_depth is not None]
    if not above:
        return None
    plan.grants[hop].max_depth = min(above) + 1
    return "authority.depth_exceeded"


def too_deep(rng, plan):
    hop = _hop(rng, plan)
    if hop is None:
        return None
    below = len(plan.grants) - hop
    plan.grants[hop - 1].max_depth = below - 1
    for grant in plan.grants[hop:]:
        grant.max_depth = None
    return "authority.depth_exceeded"


def not_to_be_passed_on(rng, plan):
    hop = _hop(rng, plan)
    if hop is None:
        return None
    plan.grants[hop - 1].redelegate = False
    return "authority.depth_exceeded"


def other_verb(rng, plan):
    if all("**" in g.actions for g in plan.grants if g.actions):
        return None
    plan.verb = "database.delete"
    return "authority.out_of_scope"


def denied(rng, plan):
    if plan.grants[0].deny is None:
        return None
    if rng.random() < 0.5:
        plan.verb = "account.close"
    else:
        plan.resource = f"secret.{plan.resource}"
    return "authority.out_of_scope"


def other_resource(rng, plan):
    if all("**" in g.resources for g in plan.grants if g.resources):
        return None
    plan.resource = f"evil{plan.resource}"  # ends as the allowed one does: patterns are anchored
    return "authority.out_of_scope"


def other_actor(rng, plan):
    plan.actor = [Party("https://stranger.example", f"stranger{plan.number}", "agent")]
    return "authority.out_of_scope"


def too_early(rng, plan):
    plan.act_delay = -plan.grants[-1].at - HOUR
    if plan.grants[-1].told is not None:
        plan.grants[-1].states_beginning = True  # else nobody says when it began
    return "authority.out_of_scope"


def given_after_the_act(rng, plan):
    grant = plan.grants[rng.randrange(len(plan.grants))]
    late = rng.randint(31, 3_000)
    if grant.expires_in is not None:
        grant.expires_in -= grant.at + timedelta(seconds=late)
    grant.at, grant.told = timedelta(seconds=-late), None
    return "authority.out_of_scope"


def token_issued_after_the_act(rng, plan):
    if not plan.tokens:
        return None
    plan.tokens[-1]["after"] = timedelta(seconds=rng.randint(31, 3_000))
    return "authority.out_of_scope"


def other_provider(rng, plan):
    if not any(g.audience for g in plan.grants):
        return None
    plan.provider = "elsewhere"
    return "authority.audience_mismatch"


def expired(rng, plan):
    if not any(g.expires_in for g in plan.grants):
        return None
    plan.act_delay = 50 * MINUTE
    last = max(place for place, grant in enumerate(plan.grants) if grant.expires_in)
    plan.grants[last].expires_in = plan.grants[last].at + 49 * MINUTE
    return "authority.used_after_expiry"


def token_expired(rng, plan):
    if not plan.tokens:
        return None
    plan.tokens[-1]["expires_in"] = MINUTE
    return "authority.used_after_expiry"


def revoked(rng, plan):
    place = rng.randrange(len(plan.grants))
    plan.more.append(
        lambda world, granted, tokens: world.revoke(
            granted[place], at=world.now - HOUR - timedelta(milliseconds=rng.randint(1, 10**6))
        )
    )
    return "authority.used_after_revocation"


def token_revoked(rng, plan):
    if not plan.tokens:
        return None
    place = rng.randrange(len(plan.tokens))
    plan.more.append(lambda world, granted, tokens: world.revoke_token(tokens[place], at=world.now - HOUR - MINUTE))
    return "authority.used_after_revocation"


def grant_never_stated(rng, plan):
    plan.grants[rng.randrange(len(plan.grants))].is_sent = False
    return "authority.orphan_token"


def token_with_another_key(rng, plan):
    if not plan.tokens or not plan.grants[plan.tokens[-1]["place"]].jkt:
        return None
    plan.tokens[-1]["cnf"] = {"jkt": f"stolen-{plan.number}"}
    plan.attestation = None
    return "authority.key_mismatch"


def act_with_another_key(rng, plan):
    if not plan.grants[-1].jkt:
        return None
    plan.attestation = {"type": "jkt", "digest": f"stolen-{plan.number}"}
    return "authority.key_mismatch"


def gate_unanswered(rng, plan):
    plan.grants[rng.randrange(len(plan.grants))].gates = ["merge"]
    plan.verb = "deployment.merge"
    for grant in plan.grants:
        if grant.actions:
            grant.actions = ["**"] if "**" in grant.actions else [*grant.actions, "deployment.merge"]
    return "authority.gate_missing"


def refused(rng, plan):
    human = plan.grants[0].subject
    action = {"verb": plan.verb, "provider": plan.provider, "resource": plan.resource}
    plan.more.append(lambda world, granted, tokens: world.event(
        "approval.decided", outcome="denied", actor=human, principal=human, action=action, gate={"kind": "any", "by": human.ref},
        at=world.now - HOUR - MINUTE,
    ))  # fmt: skip
    return "authority.refused_and_done"


def for_somebody_without_the_right(rng, plan):
    plan.actor = [Party("https://asker.example", f"asker{plan.number}", "agent"), plan.grants[-1].actor]
    return "authority.confused_deputy"


MUTATIONS: tuple[Mutation, ...] = (
    wider_action, wider_resource, wider_audience, given_by_a_stranger, wider_limit, outlives, token_outlives, token_scope, deeper,
    too_deep, not_to_be_passed_on, other_verb, denied, other_resource, other_actor, too_early, given_after_the_act, token_issued_after_the_act, other_provider, expired,
    token_expired, revoked, token_revoked, grant_never_stated, token_with_another_key, act_with_another_key,
    gate_unanswered, refused, for_somebody_without_the_right,
)  # fmt: skip
