"""squatting.bulk_provisioning: more accounts, mailboxes, numbers, packages or projects than could be expected.

The same as of names (core.names.cluster), each kind of thing by itself, and free ones too. Providers number these
themselves, and a task may need some of them, so it takes more.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta

from auditlog.core.advice import for_long
from auditlog.core.chain.act import Act
from auditlog.core.chain.intent import stated_intent
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.core.names.cluster import Cluster, Named, clusters
from auditlog.detectors.bulk_registration import cluster_finding, money_of

rule = "squatting.bulk_provisioning"
version = 1
title = "Far more was set up than expected"
runbook = (
    "Stop the grant, then look at what was set up as one cluster: who uses it, and for what. Ask the human which of it "
    "is wanted; have the provider close the rest, which costs nothing while nobody depends on it."
)
false_positives = "A test environment that is set up and torn down all day; a move of many tenants that no plan lists."
of_events = frozenset({"title", "money_at_risk", "names", "what"})
types = frozenset({"account.created", "project.created", "resource.provisioned", "action.performed"})
partition = ("environment",)  # a cluster may be of several principals
waits = False

KINDS = {
    "account": "account user tenant workspace organization organisation signup",
    "mailbox": "mailbox inbox email mail",
    "number": "number phone sms msisdn",
    "package": "package npm pypi crate",
    "project": "project",
}
_KIND_OF = {word: kind for kind, words in KINDS.items() for word in words.split()}
_MADE = frozenset(
    "create created register registered publish published provision provisioned open rent buy signup add".split()
)
_WORDS = re.compile(r"[A-Z]?[a-z]+")
_PLURAL = {
    "account": "accounts",
    "mailbox": "mailboxes",
    "number": "numbers",
    "package": "packages",
    "project": "projects",
}


def what_of(act: Act) -> str:
    """The kind of thing that an act set up, or ""."""
    if act.type == "account.created":
        return "account"
    if act.type == "project.created":
        return "project"
    verb = [word.lower() for word in _WORDS.findall(act.verb)]
    if act.type == "action.performed" and not (verb and _MADE & set(verb)):
        return ""
    action = act.payload.action
    kind = action.target.type if action and action.target else ""
    words = [word.lower() for word in _WORDS.findall(kind)] or verb
    return next((_KIND_OF[word] for word in words if word in _KIND_OF), "")


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    by_what: dict[str, list[Named]] = defaultdict(list)
    for act in acts:
        if (row := named_of(act, record)) is not None:
            by_what[row.what].append(row)
    return [finding_of(cluster) for what in sorted(by_what) for cluster in clusters(by_what[what])]


def named_of(act: Act, record: Record) -> Named | None:
    if act.environment != "live" or act.outcome != "success" or act.type not in types:
        return None
    what, name = what_of(act), act.object or act.account
    if not what or not name:
        return None
    stated = stated_intent(act)
    if stated and not stated.by_actor and name in stated.intent.targets:
        return None
    return Named(
        act.event_id,
        act.leaf_index,
        act.occurred_at,
        what,
        name,
        name.lower(),
        "",
        act.principal,
        act.actor,
        act.jkt,
        act.via_grant,
        act.provider,
        act.amount_minor,
        act.currency,
    )


def finding_of(cluster: Cluster) -> Finding:
    rows = cluster.rows
    span = for_long(rows[-1].at - rows[0].at + timedelta(seconds=59))
    _, price = money_of(rows)
    return cluster_finding(
        rule,
        rows,
        severity="high" if len(rows) >= 50 else "medium",
        title=f"{len(rows)} {_PLURAL[rows[0].what]} were set up within {span}{price}",
        evidence={"names": [row.name for row in rows[:200]], "what": rows[0].what, "signs": dict(cluster.signs)},
    )
