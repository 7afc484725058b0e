"""authority.token_elsewhere: a credential was used from where its holder never was.

Where an agent is shows in three signs: its network (IPv4 /24, IPv6 /48), its user agent without version numbers, and
what attested its runtime. An agent that has been seen at work before gives the habit; one act that differs from all of
it in two signs, or in its attestation alone, is somewhere else. One new sign is an ordinary day: addresses change.
"""

import re
from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

from auditlog.core.act import Act
from auditlog.core.finding import Finding
from auditlog.core.record import Record
from auditlog.core.use import USE_TYPES
from auditlog.detectors import finding

rule = "authority.token_elsewhere"
version = 1
title = "A credential was used from an unknown place"
runbook = "Ask the agent's operator whether it moved; if not, revoke the token and look at everything it did since."
false_positives = "A move to another cloud or runtime on the same day as an upgrade."
of_events = frozenset({"title", "place"})  # where it was before, its other acts say
types = USE_TYPES
partition = ("actor",)
waits = False
HABIT = 5  # acts seen before a place can be unusual
MOVED = 5  # acts from one new place before it counts as where the agent is now


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    seen: dict[str, dict[str, int]] = {"network": {}, "user agent": {}, "attestation": {}}
    away: dict[tuple[str, ...], list[Act]] = {}
    placed = 0
    for act in sorted(acts, key=lambda act: (act.occurred_at, act.leaf_index)):
        signs = signs_of(act)
        if not signs or not act.happened or act.environment != "live":
            continue
        new = [name for name, value in signs.items() if seen[name] and value not in seen[name]]
        if placed >= HABIT and (act.token or act.grant) and (len(new) >= 2 or "attestation" in new):
            place = tuple(f"{name} {value}" for name, value in signs.items())
            away.setdefault(place, []).append(act)
            # An agent that stays in a new place has moved: said once, and then it is its habit.
            if len(away[place]) < MOVED:
                continue
        for name, value in signs.items():
            seen[name][value] = seen[name].get(value, 0) + 1
        placed += 1
    for place, there in away.items():
        first = there[0]
        yield finding(
            rule,
            f"{first.actor} {'; '.join(place)}"[:1000],
            there,
            severity="high",
            title=f"{first.actor.partition('|')[2]} used {'token ' + first.token if first.token else 'grant ' + first.grant}"
            f" from {'; '.join(place)[:200]}, where it never was before",
            evidence={"place": list(place), "known": {name: sorted(values)[:10] for name, values in seen.items()}},
        )


def signs_of(act: Act) -> dict[str, str]:
    """What the act says of where it was done; only what it says."""
    client, attestation = act.payload.client, act.payload.attestation
    signs = {}
    if client and (network := _network(client.ip)):
        signs["network"] = network
    if client and client.user_agent:
        signs["user agent"] = re.sub(r"[\d.]+", "", client.user_agent)[:200].strip()
    if attestation and attestation.digest and attestation.type != "jkt":
        signs["attestation"] = f"{attestation.type} {attestation.digest}"[:300]
    return signs


def _network(ip: str) -> str:
    try:
        address = ip_address(ip)
    except ValueError:
        return ""
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))
