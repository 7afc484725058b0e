"""The chain explorer: the chain to a grant, and what it was passed on as, one column a hop, in the order of time.

A wide tree is a bundle, not a hairball: of the grants beside the chain only their number is shown, of those below as
many as fit, with the number before and after them. Every box leads on: the explorer then stands at that grant.
"""

from datetime import UTC, datetime
from urllib.parse import urlencode

from django.urls import reverse
from django.utils.safestring import SafeString, mark_safe

from auditlog.core.chain import svg
from auditlog.core.chain.breaks import chain_to
from auditlog.core.chain.chain import Path, with_kinds
from auditlog.core.chain.svg import Child, Tree
from auditlog.core.errors import NotFound, NotPossible
from auditlog.core.event import Party
from auditlog.projection.generation import generation_of
from auditlog.reads import reach
from auditlog.reads.access import Viewer
from auditlog.reads.chains import paths_to
from auditlog.reads.parties import kinds_of

SHOWN = 12  # grants below the chosen one shown at once


def explore(viewer: Viewer, grant_id: str, *, after: str, now: datetime) -> Tree:
    """The tree around one grant. Raises NotFound when it is not on record, NotPermitted for an abuse desk."""
    place = _place(after)
    rows = reach.children(viewer, grant_id, after=place, size=SHOWN + 1)
    later, rows = len(rows) > SHOWN, rows[:SHOWN]
    paths = paths_to(viewer.tenant, [grant_id, *(row["id"] for row in rows)])
    path = paths[grant_id]
    if not path.grants and not rows:
        raise NotFound(f"no source ever spoke of grant {grant_id[:80]}")
    chain = chain_to(path)
    given = [grant.parent for grant in path.grants if grant.parent]
    counts = reach.count_children(viewer, [grant_id, *given])
    earlier = reach.count_children(viewer, [grant_id], until=place).get(grant_id, 0) if place else 0
    parents = {grant.id: grant.parent for grant in path.grants}
    known = {hop.party.key for hop in chain.hops} | {row["actor"] for row in rows}
    kinds = kinds_of(viewer.tenant, generation_of(viewer.tenant), known - {""})
    return Tree(
        grant=grant_id,
        chain=with_kinds(chain, kinds),
        beside=tuple(max(0, counts.get(parents.get(hop.grant or "") or "", 0) - 1) for hop in chain.hops),
        children=tuple(_child(row, paths[row["id"]], kinds, now) for row in rows),
        earlier=earlier,
        later=counts.get(grant_id, 0) - earlier - len(rows),
        after=f"{rows[-1]['granted_at'].isoformat()} {rows[-1]['id']}" if later else "",
    )


def _place(after: str) -> tuple[datetime, str] | None:
    if not after:
        return None
    at, _, grant_id = after.partition(" ")
    try:
        return datetime.fromisoformat(at).astimezone(UTC), grant_id
    except (ValueError, OverflowError):
        raise NotPossible(f"expected a time and a grant to go on from, found {after[:80]!r}") from None


def _child(row: dict, path: Path, kinds: dict[str, str], now: datetime) -> Child:
    chain = chain_to(path)
    last, grant = len(chain.hops) - 1, path.grants[-1] if path.grants else None
    party = Party.of(row["actor"]) if row["actor"] else None
    # It is open only while all above it are.
    ends = [(each.revoked_at, each.expires_at) for each in path.grants] or [(row["revoked_at"], row["expires_at"])]
    revoked_at = min((at for at, _ in ends if at is not None), default=None)
    expires_at = min((at for _, at in ends if at is not None), default=None)
    ended = revoked_at is not None and revoked_at <= now, expires_at is not None and expires_at <= now
    return Child(
        row["id"],
        party and Party(party.iss, party.sub, kinds.get(party.key, "unknown")),
        row["granted_at"],
        expires_at,
        revoked_at,
        state="revoked" if ended[0] else "expired" if ended[1] else "open",
        standing=grant.standing if grant else "unknown",
        grade=(grant.grade or "") if grant else "",
        below=row["below"],
        events=row["events"],
        broken=tuple(b.reason for b in chain.breaks if b.hop is not None and b.hop >= last),
    )


def picture(tree: Tree) -> SafeString:
    """The tree drawn. Safe to put into a page: `svg` escapes every text and address."""
    return mark_safe(svg.draw_tree(tree, link=_link))


def _link(**to: str) -> tuple[str, str]:
    """Where a box leads without JavaScript, and what replaces the picture with it."""
    query = urlencode({name: value for name, value in to.items() if value})
    page = urlencode({"kind": "grant", "key": to["grant"], **({"later": to["after"]} if to.get("after") else {})})
    return f"{reverse('dashboard:reach')}?{page}#explorer", f"{reverse('dashboard:explorer')}?{query}"
