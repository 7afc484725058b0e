"""authority.shared_key: one key or token used by several agents. Who acted can then not be told from the credential."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES
from auditlog.core.event import GrantObject, TokenObject
from auditlog.core.finding import Finding
from auditlog.detectors import attenuation, orphan_token
from auditlog.detectors.base import Pattern, finding

RULE = "authority.shared_key"


def find_key(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    """The same key bound to grants or tokens of several agents."""
    holders: dict[str, list[Act]] = {}
    for act in acts:
        bound = [
            s for s in (act.payload.grant, act.payload.token) if isinstance(s, (GrantObject, TokenObject)) and s.actor
        ]
        for said in bound if act.happened and act.environment == "live" else ():
            if said.cnf and said.cnf.jkt and _is_agent(said.actor.key, said.actor.kind, record):
                holders.setdefault(said.actor.key, []).append(act)
    yield from _shared("key", _key_of, holders)


def find_token(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    """One token used by several agents. Whoever the token's own `act` claim names may use it: that is delegation."""
    users: dict[str, list[Act]] = {}
    named: set[str] = set()
    for act in acts:
        actor = act.payload.actor
        if actor is None or not isinstance(act.payload.token, str) or not act.happened or act.environment != "live":
            continue
        tokens = record.token_path(act.token).tokens
        named |= {party.key for party in tokens[-1].actors} if tokens else set()
        if _is_agent(act.actor, actor.kind, record):
            users.setdefault(act.actor, []).append(act)
    outsiders = users.keys() - named
    if named and outsiders:
        yield from _shared("token", lambda act: act.token, users | {holder: [] for holder in named - users.keys()})
    elif outsiders:
        yield from _shared("token", lambda act: act.token, users)


def _shared(word: str, name_of, by_agent: dict[str, list[Act]]) -> Iterable[Finding]:
    if len(by_agent) < 2:
        return
    acts = sorted((act for some in by_agent.values() for act in some), key=lambda act: act.leaf_index)
    name = name_of(acts[0])
    agents = sorted(by_agent)
    subjects = [agent.partition("|")[2] for agent in agents]
    yield finding(
        RULE,
        f"{word} {name}",
        acts[: orphan_token.MEMBERS],
        severity="high",
        title=f"{word} {name[:24]} is used by {len(agents)} agents: {', '.join(subjects[:4])}{' and more' if len(agents) > 4 else ''}",
        evidence={word: name, "agents": agents[:50], "uses": {agent: len(by_agent[agent]) for agent in agents[:50]}},
    )


def _key_of(act: Act) -> str:
    said = (
        act.payload.token if isinstance(act.payload.token, TokenObject) and act.payload.token.cnf else act.payload.grant
    )
    return said.cnf.jkt


def _is_agent(key: str, said: str, record: Record) -> bool:
    known = record.kind_of(key)
    return (known if known != "unknown" else said) in ("agent", "workload")


PATTERNS = tuple(
    Pattern(
        rule=RULE,
        title="One credential, several agents",
        runbook="Give each agent a key of its own, rotate this one, and settle who did what while it was shared.",
        false_positives="One agent under two names; map both to one party at the source.",
        of_events=frozenset(),  # names the other agents
        types=types,
        find=find,
        partition=(column,),
        sums=True,
    )
    for column, types, find in (("jkt", attenuation.TYPES, find_key), ("token", USE_TYPES, find_token))
)
