"""Packet: a case with everything that its verdict rests on, in one archive that anybody checks offline.

It is a bundle of the log (custody/bundle.py) with the case's papers beside the leaves (case/papers.py), and says of each
file what its digest is. The same state of a case gives the same bytes: the papers are what was kept when it was assessed
and decided, and the checkpoint is the first one that covers its last entry.
"""

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import IO, Any
from uuid import UUID

from django.db import transaction

from auditlog.core.errors import ConfigurationError, NotFound, NotPossible
from auditlog.custody.bundle import export_log
from auditlog.ledger.append import EPOCH, append_note
from auditlog.ledger.publish import origin_of
from auditlog.models import Leaf
from auditlog.reads.access import WHOLE, Viewer
from disputes.case import papers as written
from disputes.core.grounds import canonical
from disputes.models import Assessment, Case

MOST_CITED = 20_000  # leaves beside the contested acts
MOST_LEFT_OUT = 1_000  # payloads of one copy

CONTENTS = {
    "case.json": "the case: contested acts with their leaves, and what was said when it was opened",
    "criteria.json": "what the engine says of each act, criterion by criterion, and what would change it",
    "chains.json": "who acted for whom behind the acts, hop by hop; each chain is drawn in chains/NUMBER.svg",
    "limits.json": "each limit as a ledger with its running balance; `crosses` marks the line that went over it",
    "gates.json": "answers of people at gates, with the digest of what they answered",
    "decision.json": "what was proposed, by whom, and the second person's word on it, each with its leaf",
    "custody.json": "every step of the case, chained by hash, and all else that was done with it: each stands in a leaf",
    "deadlines.json": "what had to come by when, on what ground, and whether it did",
    "evidence.json": "what the sides handed in; the files are in evidence/NUMBER.bin, as they came",
    "assessments.json": "every run of the engine, and what later runs say differently",
    "notices.json": "what was told to providers and banks, and whether they took it",
    "access.json": "who took copies of the case out, as the security log says",
    "keys.json": "the keys of all sources in here, and the log's own, as they stood at the case's last entry",
    "redaction.json": "what was left out of this copy, erased, or removed at receipt, and by whose word",
    "missing.json": "what nobody has told, what would decide it, and what else is not in here",
    "certificate.txt": "a draft certificate under FRE 902(13) and (14), to be read, completed and signed by a person",
}


def write_packet(
    case: Case, viewer: Viewer, file: IO[bytes], *, now: datetime, left_out: Collection[str] = (), why: str = ""
) -> str:
    """Write the packet of a case and return its digest, which the log states too, once for each state of the case.

    `left_out`: events whose payloads this copy does not show, for the reason `why`. Their leaves and proofs stay, so that
    all that is shown is still proven, and what is not shown can be later.

    Raises NotPermitted for whoever may not read whole records, NotPossible before the case was assessed, NotCovered
    until a checkpoint covers its last entry, ConfigurationError or NotFound for what cannot be left out.
    """
    viewer.must(WHOLE)
    case.refresh_from_db()  # the papers say what its steps say
    last = _decided_on(case)
    if last is None:
        raise NotPossible("a packet holds what was assessed, and this case was not assessed yet")
    steps = list(case.transitions.order_by("position"))
    entries = written.entries_of(case)
    acts = list(case.acts.values_list("event_id", flat=True))
    end = entries[-1]
    cited = _cited([last.verdicts, last.grounds], end.leaf_index)
    leaves = sorted({*_leaves_of(case, acts), *(one.leaf_index for one in entries), *cited})
    hidden = _hidden(case, left_out, why, leaves)
    papers = {f"case/{name}": content for name, content in _papers(case, last, steps, entries, leaves, hidden, why)}
    for item in case.evidence.filter(submitted_at__isnull=False, body__isnull=False).order_by("number"):
        papers[f"case/evidence/{item.number}.bin"] = bytes(item.body)
    done = export_log(
        case.tenant, file, also=leaves, papers=papers, about={"case": case.ref}, earliest=True, left_out=hidden,
        readme=_readme(case, last, sorted(papers)),
    )  # fmt: skip
    _state(case, done.digest, viewer, hidden, why, now=now)
    return done.digest


def _decided_on(case: Case) -> Assessment | None:
    """The run that the case was decided on, or is about to be: the one that its last proposal names, else the sealed one."""
    runs = case.assessments.order_by("-number")
    proposed = (
        case.proposals.exclude(assessment_digest="")
        .order_by("-number")
        .values_list("assessment_digest", flat=True)
        .first()
    )
    return (runs.filter(digest=proposed).first() if proposed else None) or runs.filter(reason="").first()


@transaction.atomic
def _state(case: Case, digest: str, viewer: Viewer, hidden: Collection[int], why: str, *, now: datetime) -> None:
    """The packet's digest stands in the log, so that a packet that was changed afterwards is known by it."""
    held = Case.objects.select_for_update().select_related("tenant").get(pk=case.pk)
    if held.packet_digest != digest:
        said = {"change": "case.packet", "case": held.ref, "sha256": digest, "by": viewer.name}
        if hidden:
            said |= {"left_out": sorted(hidden), "why": why.strip()}
        held.packet_digest, held.packet_at = digest, now
        held.packet_leaf = append_note(held.tenant, "case", said, now=now)
        held.save(update_fields=["packet_digest", "packet_at", "packet_leaf"])


def _leaves_of(case: Case, events: Collection[UUID | str]) -> set[int]:
    return set(
        Leaf.objects.filter(tenant=case.tenant, epoch=EPOCH, event_id__in=list(events)).values_list(
            "leaf_index", flat=True
        )
    )


def _hidden(case: Case, left_out: Collection[str], why: str, leaves: Collection[int]) -> list[int]:
    """The leaves whose payloads are not to be shown. Raises ConfigurationError or NotFound."""
    wanted = set(left_out)
    if not wanted:
        return []
    if not why.strip():
        raise ConfigurationError(
            "to leave payloads out of a packet needs a reason: it stands in the packet and in the log"
        )
    if len(wanted) > MOST_LEFT_OUT:
        raise ConfigurationError(f"at most {MOST_LEFT_OUT:,} payloads are left out of a packet, found {len(wanted):,}")
    try:
        found = dict(
            Leaf.objects.filter(
                tenant=case.tenant, epoch=EPOCH, event_id__in=[UUID(one) for one in wanted]
            ).values_list("event_id", "leaf_index")
        )
    except ValueError:
        raise ConfigurationError("what is left out is named by the ids of events") from None
    inside = {str(event) for event, leaf in found.items() if leaf in set(leaves)}
    if missing := sorted(wanted - inside):
        raise NotFound(f"this packet holds no event {missing[0][:40]}")
    return sorted(found.values())


def _cited(said: list[Any], before: int) -> set[int]:
    """Leaves that the verdicts and their grounds rest on, as they name them."""
    found: set[int] = set()
    for leaf in _leaves_in(said):
        if leaf <= before:
            found.add(leaf)
        if len(found) >= MOST_CITED:
            break
    return found


def _leaves_in(said: Any) -> Iterator[int]:
    if isinstance(said, dict):
        for name, value in said.items():
            if name in ("leaf", "leaf_index") and isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                yield value
            else:
                yield from _leaves_in(value)
    elif isinstance(said, list):
        for value in said:
            yield from _leaves_in(value)


def _papers(case: Case, last: Assessment, steps, entries, leaves, hidden, why) -> Iterator[tuple[str, bytes]]:
    end = entries[-1]
    grounds = last.grounds or {}
    sources = set(
        Leaf.objects.filter(tenant=case.tenant, epoch=EPOCH, leaf_index__in=leaves, source__isnull=False).values_list(
            "source__name", flat=True
        )
    )
    notices = written.notices_paper(case, grounds, end.at)
    redaction = written.redaction_paper(case, leaves, hidden, why.strip())
    said: dict[str, Any] = {
        "case.json": written.case_paper(case),
        "criteria.json": written.criteria_paper(last),
        "decision.json": written.decision_paper(case, entries),
        "custody.json": written.custody_paper(steps, entries),
        "deadlines.json": written.deadlines_paper(case),
        "evidence.json": written.evidence_paper(case),
        "assessments.json": written.assessments_paper(case, last),
        "notices.json": notices,
        "access.json": written.access_paper(case, end.at),
        "keys.json": written.keys_paper(case, sources, end.leaf_index),
        "redaction.json": redaction,
        "missing.json": written.missing_paper(case, last, notices, redaction),
    }
    if last.grounds is not None:
        said |= {f"{name}.json": grounds[name] for name in ("chains", "limits", "gates")}
        for chain in grounds["chains"]["chains"]:
            yield f"chains/{chain['number']}.svg", chain["svg"].encode()
    for name, value in said.items():
        yield name, canonical(value) + b"\n"
    yield "certificate.txt", _certificate(case, last, leaves, entries).encode()


def _readme(case: Case, last: Assessment, names: list[str]) -> str:
    listed = [name.removeprefix("case/") for name in names]
    lines = "".join(f"  case/{name:<20}{words}\n" for name, words in CONTENTS.items() if name in listed)
    counts: dict[str, int] = {}
    for verdict in last.verdicts:
        counts[verdict["verdict"]] = counts.get(verdict["verdict"], 0) + 1
    came_to = ", ".join(f"{count:,} {verdict.replace('_', ' ')}" for verdict, count in sorted(counts.items()))
    return f"""CASE {case.ref}: evidence packet
{"=" * (len(case.ref) + 22)}

The question: did the agents act within the scope of what the human allowed them? The engine's answer, by act: {came_to}.
{written.RECOMMENDS}

How to read it
  1. Check it first (below). What does not verify proves nothing.
  2. case/case.json says what is contested, case/criteria.json what the engine says of each act and why, and
     case/decision.json what people made of that. case/missing.json says what is not known.
  3. Every statement in these files names a leaf (`leaf_index`). Look it up in leaves.jsonl: its payload is what was
     signed, byte for byte.

What the check holds against the log, so that nobody can have changed it since: the steps and all else that was done with
the case, what was contested, every word of the verdicts with their chains, limits and gates, proposals and answers, the
evidence that was handed in, and the keys. The other files are bound by their SHA-256 in manifest.json alone. Its own
SHA-256 stands in the log, in a leaf that is later than this packet: ask the log's operator for it, and give it to the
check with --digest. Whoever sent you this packet could have written it anew; nobody can write the log anew.

What it does not prove: that the sources told the truth, and that the engine's policy is the right one.

The papers
{lines}
------------------------------------------------------------------------------------------------------------------

"""


def _certificate(case: Case, last: Assessment, leaves: list[int], entries: list[written.Entry]) -> str:
    files = [
        f"     item {item.number}: {item.title!a}, SHA-256 {item.sha256}"
        for item in case.evidence.filter(submitted_at__isnull=False, body__isnull=False)
        .defer("body")
        .order_by("number")
    ]
    handed_in = "\n".join(files) or "     none"
    first, end = entries[0], entries[-1]
    return f"""CERTIFICATE OF A RECORD GENERATED AND COPIED BY AN ELECTRONIC PROCESS
(Federal Rules of Evidence 902(13) and 902(14); a draft, unsigned: to be read, completed and signed by a qualified person)

1. I, ______________________ (name), am ______________________ (position) of ______________________ (organisation), and am
   qualified to make this certificate by ______________________ (training, experience).
2. The records in this archive are {len(leaves):,} entries of the log {origin_of(case.tenant)!r}, kept for {case.tenant.name!r}, that
   case {case.ref} rests on. The case is on record from {first.at:%Y-%m-%d %H:%M:%S} UTC (entry {first.leaf_index}) to
   {end.at:%Y-%m-%d %H:%M:%S} UTC (entry {end.leaf_index}).
3. Rule 902(13), process. The system takes in signed statements of others as they come, keeps the bytes as received, and
   commits to each in a Merkle tree (RFC 6962) whose heads are signed. The assessment was made by {last.engine} under policy
   {last.policy_version} on {last.at:%Y-%m-%d %H:%M:%S} UTC, on all entries before {last.position}. The process gives an accurate
   result: answerable_verify.py in this archive derives every commitment and proof again from the bytes, and fails where
   any of them differs.
4. Rule 902(14), copies. The copies in leaves.jsonl were identified by their SHA-256 commitments, and all other files by their
   SHA-256 digests in manifest.json. The digest of manifest.json is in manifest.sha256. Files handed in:
{handed_in}
5. I ran the check on this archive on ______________________ (date). It reported: ______________________.

I declare under penalty of perjury that the foregoing is true and correct.

Signed: ______________________    Date: ______________________
"""
