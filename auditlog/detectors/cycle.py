"""authority.cycle: grants or tokens that point at each other in a circle reach no human."""

from collections.abc import Iterable, Sequence

from auditlog.core.chain.act import Act
from auditlog.core.chain.record import Record
from auditlog.core.finding import Finding
from auditlog.detectors import attenuation
from auditlog.detectors.base import finding

rule = "authority.cycle"
version = 1
title = "Authority that comes from itself"
runbook = "Treat every act under the circle as without authority; ask each issuer on it which parent it meant."
false_positives = "A sender that reuses ids of grants that ended long ago."
of_events = frozenset()  # ids of grants that others stated
types = attenuation.TYPES
partition = ("event_id",)
waits = False


def find(acts: Sequence[Act], record: Record) -> Iterable[Finding]:
    for act in acts:
        tokens = record.token_path(act.token)
        for word, stated, circle, cut in (
            ("grant", act.grant, [(g.id, g.parent, g.leaf_index, g.standing) for g in act.path.grants], act.path.cycle),
            ("token", act.token, [(t.jti, t.parent, t.leaf_index, t.standing) for t in tokens.tokens], tokens.cycle),
        ):
            # On the circle itself, and not only below it: the walk came back to where it began. One member speaks for all.
            if (
                not cut
                or circle[-1][0] != stated
                or circle[0][1] != stated
                or stated != min(each[0] for each in circle)
            ):
                continue
            ids = [each[0] for each in circle]
            yield finding(
                rule,
                f"{word} {stated}",
                [act],
                severity="high" if all(each[3] == "proven" for each in circle) else "medium",
                title=f"{word}s {', '.join(ids[:4])}{' and more' if len(ids) > 4 else ''} point at each other in a circle",
                evidence={"members": ids[:64], "leaves": [each[2] for each in circle][:64], "length": len(ids)},
            )
