"""authority.key_mismatch: a token or an act with another key than the one that its grant is bound to (RFC 7800 `cnf`).

A grant names the key of whoever may act (`cnf.jkt`, RFC 9449 section 6). A token under it for the same holder must be
bound to that key, and an act must have been proven with it, where its source says which key it saw: `attestation` of
type `jkt` with the thumbprint as its digest.
"""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.authority import Binding, key_bound, key_shown, surely
from auditlog.core.chain.record import Record
from auditlog.core.chain.use import USE_TYPES
from auditlog.core.finding import Finding
from auditlog.detectors.base import finding

rule = "authority.key_mismatch"
version = 1
title = "Another key than the one authority is bound to"
runbook = "Treat the credential as stolen until its holder explains the other key: revoke it, and look at what it did."
false_positives = "A key that was rotated and whose new binding no source has reported."
of_events = frozenset({"money_at_risk"})  # the keys are the grant's and the token's
types = USE_TYPES
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        if not act.happened or act.environment != "live":
            continue
        bound = surely(act, lambda act: _other_binding(act, record))
        if bound is None:
            continue
        shown = key_shown(act, record.token_path(act.token))
        yield finding(
            rule,
            act.event_id,
            [act],
            severity="critical" if bound.standing == "proven" else "medium",
            title=f"{act.verb or act.type} was done with key {shown[:16]}, and {bound.name} is bound to {bound.jkt[:16]}",
            money_at_risk_minor=act.amount_minor,
            currency=act.currency or None,
            evidence={"bound_by": bound.name, "bound_to": bound.jkt, "leaf": bound.leaf_index, "shown": shown},
        )


def _other_binding(act: Act, record: Record) -> Binding | None:
    """What binds another key than the act was done with."""
    tokens = record.token_path(act.token)
    bound, shown = key_bound(act, tokens), key_shown(act, tokens)
    return bound if bound is not None and shown and shown != bound.jkt else None
