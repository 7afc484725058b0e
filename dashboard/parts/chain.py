"""The chain of an act or a grant, as pages draw and list it."""

from dataclasses import replace
from typing import Any

from django.utils.safestring import mark_safe

from auditlog.core.chain import svg
from auditlog.core.chain.act import Act
from auditlog.core.chain.breaks import gain_of, recorded_when
from auditlog.core.chain.chain import Chain, Hop
from auditlog.reads.access import Viewer
from auditlog.reads.parties import organisations_of
from dashboard.parts.queries import stub


def chain_svg(viewer: Viewer, chain: Chain, seen: frozenset[str] | None) -> str:
    """Safe to put into a page: `svg.draw` escapes every text. `seen` are the parties the viewer may see; None is all."""

    def name(hop: Hop) -> str:
        return hop.party.sub if seen is None or hop.party.key in seen else stub(viewer, hop.party.key)

    if seen is not None:  # reasons name grants and parties of others
        breaks = tuple(replace(found, reason=found.code.replace("_", " ")) for found in chain.breaks)
        chain = replace(chain, breaks=breaks)
    return mark_safe(svg.draw(chain, name=name))


RECORDED = {
    "before": "before the act was done",
    "told": "after the act was done, before it was told",
    "after": "only after the act was told",
    "itself": "by this event itself",
}


GATE_WORDS = {
    "approved": "approved",
    "refused": "refused",
    "not_counted": "answered, and it does not count",
    "asked": "asked for, not answered",
    "unknown": "nothing on record",
}


def hop_rows(viewer: Viewer, chain: Chain, seen: frozenset[str] | None, act: Act | None = None) -> list[dict[str, Any]]:
    organisations = organisations_of(viewer.tenant)
    grants = {grant.id: grant for grant in chain.path.grants}
    rows = []
    for hop in chain.hops:
        is_seen = seen is None or hop.party.key in seen
        recorded = recorded_when(hop, act) or "" if act else None
        rows.append({
            "hop": hop,
            "seen": is_seen,
            "stub": "" if is_seen else stub(viewer, hop.party.key),
            "grant_seen": seen is None,
            "meaning": svg.meaning(hop.standing),
            "organisation": organisations.of_party(hop.party.key) if is_seen else None,
            "gain": gain_of(hop, chain, act, organisations),
            "allows": grants.get(hop.grant or ""),
            "recorded": recorded,
            "recorded_words": RECORDED.get(recorded or "", ""),
        })  # fmt: skip
    return rows
