"""Packet: a case with everything that its verdict rests on, in one archive that anybody checks offline.

It is a bundle of the log (custody/bundle.py) with the case's papers beside the leaves, and says of each file what its
digest is. The same state of a case gives the same bytes: the papers are what was kept when it was assessed and decided,
and the checkpoint is the first one that covers its last step.
"""

from collections.abc import Iterator
from datetime import datetime
from typing import IO, Any

import rfc8785
from django.db import transaction

from auditlog.core.errors import NotPossible
from auditlog.core.party import split_party
from auditlog.custody.bundle import export_log
from auditlog.ledger.append import append_note
from auditlog.models import Leaf
from auditlog.reads.access import WHOLE, Viewer
from disputes.core.compare import changes
from disputes.models import Assessment, Case, Transition

MOST_CITED = 20_000  # leaves beside the contested acts
RECOMMENDS = "The engine recommends; people decided. What it says of liability is allocation under the policy named here, and not law."


def write_packet(case: Case, viewer: Viewer, file: IO[bytes], *, now: datetime) -> str:
    """Write the packet of a case and return its digest, which the log states too, once for each state of the case.

    Raises NotPermitted for whoever may not read whole records, NotPossible before the case was assessed, NotCovered
    until a checkpoint covers its last step.
    """
    viewer.must(WHOLE)
    case.refresh_from_db()  # the papers say what its steps say
    last = _decided_on(case)
    if last is None:
        raise NotPossible("a packet holds what was assessed, and this case was not assessed yet")
    steps = list(case.transitions.order_by("position"))
    events = [act.event_id for act in case.acts.all()]
    papers = {f"case/{name}": rfc8785.dumps(said) + b"\n" for name, said in _papers(case, last, steps)}
    papers["case/certificate.txt"] = _certificate(case).encode()
    for item in case.evidence.filter(submitted_at__isnull=False, body__isnull=False).order_by("number"):
        papers[f"case/evidence/{item.number}.bin"] = bytes(item.body)
    leaves = sorted({step.leaf_index for step in steps} | _cited(last, steps[-1].leaf_index))
    done = export_log(
        case.tenant, file, events=events, also=leaves, papers=papers, about={"case": case.ref}, earliest=True
    )
    _state(case, done.digest, viewer, now=now)
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
def _state(case: Case, digest: str, viewer: Viewer, *, now: datetime) -> None:
    """The packet's digest stands in the log, so that a packet that was changed afterwards is known by it."""
    held = Case.objects.select_for_update().select_related("tenant").get(pk=case.pk)
    if held.packet_digest != digest:
        held.packet_digest, held.packet_at = digest, now
        held.packet_leaf = append_note(
            held.tenant,
            "case",
            {"change": "case.packet", "case": held.ref, "sha256": digest, "by": viewer.name},
            now=now,
        )
        held.save(update_fields=["packet_digest", "packet_at", "packet_leaf"])


def _cited(last: Assessment, before: int) -> set[int]:
    """Leaves that the verdicts rest on, as their criteria name them."""
    found: set[int] = set()
    for number, leaf in enumerate(_leaves_in(last.verdicts)):
        if number >= MOST_CITED:
            break
        found.add(leaf)
    return {leaf for leaf in found if leaf <= before}


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


def _papers(case: Case, last: Assessment, steps: list[Transition]) -> Iterator[tuple[str, Any]]:
    acts = list(case.acts.all())
    index = dict(
        Leaf.objects.filter(tenant=case.tenant, event_id__in=[act.event_id for act in acts]).values_list(
            "event_id", "leaf_index"
        )
    )
    yield "case.json", {
        "ref": case.ref, "tenant": case.tenant.name, "kind": case.kind, "title": case.title, "complaint": case.complaint, "state": case.state,
        "claimed": _amount(case.claimed_minor, case.claimed_currency), "principal": _party(case.principal), "respondent": _party(case.respondent),
        "provider": case.provider or None, "opened_at": _time(case.opened_at), "opened_by": case.opened_by, "finding": case.opened_from_id,
        "merged_into": case.merged_into or None, "policy": case.policy_version,
        "acts": [
            {"event_id": str(act.event_id), "leaf_index": index.get(act.event_id), "contested": _amount(act.amount_minor, act.currency)} for act in acts
        ],
    }  # fmt: skip
    yield "criteria.json", {
        "engine": last.engine, "policy": last.policy_version, "assessed_at": _time(last.at), "number": last.number, "digest": last.digest,
        "leaves_before": last.position, "note": RECOMMENDS, "verdicts": _plain(last.verdicts),
    }  # fmt: skip
    yield "decision.json", {
        "proposals": [
            {"number": one.number, "outcome": one.outcome, "reason": one.reason, "by": one.proposer, "role": one.role, "at": _time(one.at),
             "assessment": one.assessment_digest, "answer": _answer(one)}
            for one in case.proposals.select_related("approval").order_by("number")
        ],
    }  # fmt: skip
    yield "custody.json", {
        "steps": [
            {"position": step.position, "from": step.from_state, "to": step.to_state, "by": step.actor, "role": step.role, "reason": step.reason,
             "at": _time(step.at), "previous": step.previous, "digest": step.digest, "leaf_index": step.leaf_index}
            for step in steps
        ],
    }  # fmt: skip
    yield "missing.json", {"missing": [*_missing(last)]}
    yield "deadlines.json", {
        "deadlines": [
            {"kind": one.kind, "source": one.source, "basis": one.basis, "zone": one.zone, "begins_at": _time(one.begins_at), "due_at": _time(one.due_at),
             "state": one.state, "of_state": one.of_state or None, "why": one.why or None}
            for one in case.deadlines.order_by("id")
        ],
    }  # fmt: skip
    yield "evidence.json", {
        "items": [
            {"number": item.number, "side": item.side, "title": item.title, "event_id": str(item.event_id) if item.event_id else None,
             "file": None if item.event_id else f"case/evidence/{item.number}.bin", "name": item.name or None,
             "media_type": item.media_type or None, "sha256": item.sha256, "by": item.actor, "role": item.role, "staged_leaf": item.staged_leaf,
             "submitted_at": _time(item.submitted_at) if item.submitted_at else None, "submitted_leaf": item.submitted_leaf, "late": item.is_late,
             "upstream_valid": item.upstream_valid, "eligible": item.eligible, "why": item.eligible_why or None}
            for item in case.evidence.filter(submitted_at__isnull=False).defer("body").order_by("number")
        ],
    }  # fmt: skip
    yield "assessments.json", {
        "sealed": {"at": _time(case.sealed_at), "before_leaf": case.sealed_position, "digest": case.sealed_digest} if case.sealed_at else None,
        "runs": [
            {"number": run.number, "at": _time(run.at), "digest": run.digest, "before_leaf": run.position, "by": run.actor or None, "why": run.reason or None,
             "changes": [change._asdict() for change in changes(last.verdicts, run.verdicts)]}
            for run in case.assessments.order_by("number")
        ],
    }  # fmt: skip


def _answer(proposal: Any) -> dict[str, Any] | None:
    found = getattr(proposal, "approval", None)
    return (
        None
        if found is None
        else {
            "result": found.result,
            "reason": found.reason,
            "by": found.approver,
            "role": found.role,
            "at": _time(found.at),
        }
    )


def _missing(last: Assessment) -> Iterator[dict[str, Any]]:
    """What nobody has told: every criterion that is unknown, and what would decide it."""
    for verdict in last.verdicts:
        unknown = [c for c in verdict["criteria"] if c["result"] == "unknown"]
        if unknown:
            yield {
                "event_id": verdict["event_id"], "unknown": [{"criterion": c["id"], "why": c["reason"]} for c in unknown],
                "would_change": verdict["would_change"],
            }  # fmt: skip


def _plain(said: Any) -> Any:
    """JSON whose numbers every reader reads alike: a whole number beyond 2^53 is written as text (RFC 8785 section
    3.2.2.3).
    """
    if isinstance(said, dict):
        return {name: _plain(value) for name, value in said.items()}
    if isinstance(said, list):
        return [_plain(value) for value in said]
    return str(said) if isinstance(said, int) and not isinstance(said, bool) and abs(said) > 2**53 - 1 else said


def _amount(minor: int | None, currency: str) -> dict[str, Any] | None:
    return None if minor is None else {"amount_minor": _plain(minor), "currency": currency or None}


def _party(key: str) -> dict[str, str] | None:
    return split_party(key)


def _time(at: datetime) -> str:
    return at.isoformat()


def _certificate(case: Case) -> str:
    return f"""CERTIFICATE OF A RECORD GENERATED AND COPIED BY AN ELECTRONIC PROCESS
(Federal Rules of Evidence 902(13) and 902(14); a draft, to be read, completed and signed by a qualified person)

1. I, ______________________ (name), am ______________________ (position) of ______________________ (organisation), and am
   qualified to make this certificate.
2. The records of case {case.ref} in this archive were taken from the log of tenant {case.tenant.name!r}. The system takes in signed
   statements of others as they come, keeps the bytes as received, and commits to each in a Merkle tree (RFC 6962) whose heads
   are signed.
3. The process gives an accurate result: answerable_verify.py in this archive derives every commitment and proof again
   from the bytes and fails where any of them differs.
4. The copies in leaves.jsonl were identified by their SHA-256 commitments, which manifest.json and the signed checkpoint bind.

I declare under penalty of perjury that the foregoing is true and correct.

Signed: ______________________    Date: ______________________
"""
