"""authority.token_elsewhere: a credential was used from where its holder never was.

Where an agent is shows in three signs: its network (IPv4 /24, IPv6 /48), its user agent without version numbers, and
what attested its runtime. An agent that has been seen at work before gives the habit; one act that differs from all of
it in two signs, or in its attestation alone, is somewhere else. One new sign is an ordinary day: addresses change.

A strange place teaches nothing, however often it is used, and neither does one that shares a new sign with it: a thief who
stays would be at home after a while. Only a holder who has moved is: all acts come from one new place for SETTLED, and
the old places are silent all that time. What was found until then stays found.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address, ip_network

from auditlog.core.advice import Facts, for_long
from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES
from auditlog.core.finding import Finding
from auditlog.core.policy import Setting
from auditlog.detectors.base import finding

rule = "authority.token_elsewhere"
version = 2
title = "A credential was used from an unknown place"
runbook = "Ask the agent's operator whether it moved; if not, revoke the token and look at everything it did since."
false_positives = "A move to another cloud or runtime on the same day as an upgrade."
of_events = frozenset({"title", "place"})  # where it was before, its other acts say
types = USE_TYPES
partition = ("actor",)
sums = True  # of many acts: no cause by itself (core.incident)
waits = False
HABIT = 5  # acts seen before a place can be unusual
SETTLED = Setting(
    "settled_days", 7, 1, 90, "days", "so long all acts come from one new place before the holder has moved there"
)
settings = (SETTLED,)
SETTLED_ACTS = 20


def advise(facts: Facts, now: datetime | None) -> str:
    since = facts.first_at.strftime("%Y-%m-%d %H:%M UTC") if facts.first_at else "then"
    used = f"It was last used from there {for_long(now - facts.last_at)} ago." if facts.last_at and now else ""
    return f"Ask the agent's operator whether it moved; if not, revoke the token and look at everything it did since {since}. {used}".strip()


@dataclass(eq=False)
class Stay:
    """Acts from strange places, until the holder is at home there, if ever."""

    acts: list[Act] = field(default_factory=list)
    places: dict[tuple[str, ...], int] = field(default_factory=dict)
    signs: dict[str, set[str]] = field(default_factory=dict)


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    seen: dict[str, dict[str, int]] = {"network": {}, "user agent": {}, "attestation": {}}
    stays: list[Stay] = []
    open_: Stay | None = None  # the last stay, while nobody is at home there
    since: list[Act] = []  # acts from one strange place, with no other between them
    placed = 0
    settled = timedelta(days=record.setting(rule, SETTLED))
    for act in sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index)):
        signs = signs_of(act)
        if not signs or not act.happened or act.environment != "live":
            continue
        new = [name for name, value in signs.items() if seen[name] and value not in seen[name]]
        shares = open_ is not None and any(
            signs[name] in open_.signs.get(name, ()) for name in new if name != "user agent"
        )
        if placed >= HABIT and (act.token or act.grant) and (len(new) >= 2 or "attestation" in new or shares):
            if open_ is None:
                open_ = Stay()
                stays.append(open_)
            place = tuple(f"{name} {value}" for name, value in signs.items())
            if since and place != tuple(f"{name} {value}" for name, value in signs_of(since[-1]).items()):
                since = []
            if len(since) >= SETTLED_ACTS and act.occurred_at - since[0].occurred_at >= settled:
                open_, since = None, []
            else:
                since.append(act)
                open_.acts.append(act)
                open_.places[place] = open_.places.get(place, 0) + 1
                for name in new:
                    open_.signs.setdefault(name, set()).add(signs[name])
                continue
        elif not new:
            since = []  # its old places are not silent
        for name, value in signs.items():
            seen[name][value] = seen[name].get(value, 0) + 1
        placed += 1
    for stay in stays:
        first, places = stay.acts[0], list(stay.places)
        where = "; ".join(places[0])[:200] + (
            f" and {len(places) - 1} more place{'s' if len(places) > 2 else ''}" if len(places) > 1 else ""
        )
        yield finding(
            rule,
            f"{first.actor} {first.event_id}",
            stay.acts,
            severity="high",
            title=f"{first.actor.partition('|')[2]} used {'token ' + first.token if first.token else 'grant ' + first.grant}"
            f" from {where}, where it never was before",
            evidence={
                "place": list(places[0]),
                "known": {name: sorted(values)[:10] for name, values in seen.items()},
            }
            | (
                {"places": [{"place": list(place), "acts": number} for place, number in list(stay.places.items())[:20]]}
                if len(places) > 1
                else {}
            ),
        )


def signs_of(act: Act) -> dict[str, str]:
    """What the act says of where it was done; only what it says."""
    client, attestation = act.payload.client, act.payload.attestation
    signs = {}
    if client and (network := _network(client.ip)):
        signs["network"] = network
    if client and client.user_agent:
        signs["user agent"] = _without_versions(client.user_agent)
    if attestation and attestation.digest and attestation.type != "jkt":
        signs["attestation"] = f"{attestation.type} {attestation.digest}"[:300]
    return signs


@lru_cache(maxsize=4096)
def _without_versions(user_agent: str) -> str:
    return re.sub(r"[\d.]+", "", user_agent)[:200].strip()


@lru_cache(maxsize=4096)
def _network(ip: str) -> str:
    try:
        address = ip_address(ip)
    except ValueError:
        return ""
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))
