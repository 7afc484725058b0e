"""authority.scope_widened: a hop gave more than it had."""

from collections.abc import Iterable, Sequence

from auditlog.core.act import Act
from auditlog.core.authority import widenings
from auditlog.core.finding import Finding
from auditlog.core.record import Record
from auditlog.detectors import finding

rule = "authority.scope_widened"
version = 1
title = "A grant allows what its parent does not"
runbook = "Revoke the child grant and look at every act under it; the token server that issued it did not attenuate."
false_positives = "The parent was widened by a grant that no source has reported yet."
types = frozenset({"delegation.granted", "mandate.issued"})
partition = ("grant",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    act = acts[-1]
    path = act.path
    if act.outcome != "success" or not path.grants or path.grants[-1].id != act.grant:
        return
    for widening in widenings(path):
        if widening.kind != "scope" or widening.hop != len(path.grants):
            continue
        parent = path.grants[-2]
        yield finding(
            rule,
            act.grant,
            [act],
            severity="critical" if widening.grant.standing == "proven" else "medium",
            title=f"{_name(widening.grant.actor)} was given {widening.found}, which {_name(parent.actor)} did not have",
            grant=act.grant,
            actor=widening.grant.subject.key if widening.grant.subject else None,
            evidence={"hop": widening.hop, "found": widening.found, "allowed": widening.allowed,
                      "parent": parent.id, "parent_leaf": parent.leaf_index, "grant_leaf": widening.grant.leaf_index},
        )  # fmt: skip
        return


def _name(party) -> str:
    return party.sub if party else "an unnamed party"
