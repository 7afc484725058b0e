"""Papers: what a packet says of a case beside the signed bytes, each file from what is kept, so that the same state of
a case gives the same bytes. What moved on after the case's last entry in the log is not looked at.
"""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection

from auditlog.core.party import split_party
from auditlog.custody.security import told_of
from auditlog.ledger.append import EPOCH
from auditlog.models import Leaf, Signal
from auditlog.models.ledger import KIND_NUMBERS
from disputes.core.compare import changes
from disputes.core.grounds import plain
from disputes.models import Assessment, Case, Proposal, Transition

MOST_READS = 5_000  # of the case, in the access log
RECOMMENDS = "The engine recommends; people decided. What it says of liability is allocation under the policy named here, and not law."
_REFS = re.compile(r"D-[0-9]{4}-[0-9]{6,10}")
_PROPOSED = ("proposed", "appeal_proposed")


class Entry(NamedTuple):
    """A leaf of kind `case` of this case: one step, or what else was done with it."""

    leaf_index: int
    at: datetime
    body: dict[str, Any]


def entries_of(case: Case) -> list[Entry]:
    """All that the log says of the case, oldest first; but that a packet was taken out, which changes none of it."""
    first = case.transitions.order_by("position").values_list("leaf_index", flat=True).first()
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.received_at, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = %s AND l.leaf_index >= %s"
            " AND position(%s::bytea IN p.raw) > 0 ORDER BY l.leaf_index",
            [case.tenant_id, EPOCH, KIND_NUMBERS["case"], first or 0, json.dumps(case.ref).encode()],
        )
        found = [Entry(index, at, json.loads(bytes(raw))) for index, at, raw in cursor.fetchall()]
    return [one for one in found if one.body.get("case") == case.ref and one.body.get("change") != "case.packet"]


def case_paper(case: Case) -> dict[str, Any]:
    acts = list(case.acts.all())
    index = dict(
        Leaf.objects.filter(tenant=case.tenant, event_id__in=[act.event_id for act in acts]).values_list("event_id", "leaf_index")
    )  # fmt: skip
    return {
        "ref": case.ref, "tenant": case.tenant.name, "state": case.state, "opened_at": _time(case.opened_at),
        "merged_into": case.merged_into or None, "about": about(case),
        "acts": [
            {"event_id": str(act.event_id), "leaf_index": index.get(act.event_id), "contested": amount(act.amount_minor, act.currency)} for act in acts
        ],
    }  # fmt: skip


def about(case: Case) -> dict[str, Any]:
    """What was said when the case was opened: the log states the digest of this."""
    return {
        "kind": case.kind, "title": case.title, "complaint": case.complaint, "claimed": amount(case.claimed_minor, case.claimed_currency),
        "principal": split_party(case.principal), "respondent": split_party(case.respondent), "provider": case.provider or None,
        "opened_by": case.opened_by, "finding": case.opened_from_id,
    }  # fmt: skip


def criteria_paper(run: Assessment) -> dict[str, Any]:
    return {**of_run(run), "digest": run.digest, "verdicts": run.verdicts}


def of_run(run: Assessment) -> dict[str, Any]:
    return {
        "engine": run.engine, "policy": run.policy_version, "number": run.number, "assessed_at": _time(run.at),
        "leaves_before": run.position,
    }  # fmt: skip


def decision_paper(case: Case, entries: Sequence[Entry]) -> dict[str, Any]:
    """Proposals and the second person's word on each, with the leaf in which the log states it."""
    offered = {one.body["proposal"]: one for one in entries if one.body.get("change") == "case.settlement_offered"}
    refused = {one.body["proposal"]: one for one in entries if one.body.get("change") == "case.settlement_refused"}
    steps = [one for one in entries if one.body.get("change") == "case.moved"]
    accepted = {
        int(one.body["proposal"]): one for one in steps if one.body["to"] == "settled" and "proposal" in one.body
    }
    made = iter(one for one in steps if one.body["to"] in _PROPOSED and one.body["from"] != "suspended")
    answered = iter(one for one in steps if "result" in one.body)
    said = []
    for one in case.proposals.select_related("approval").order_by("number"):
        settles = one.outcome == Proposal.Outcome.SETTLED
        answer = getattr(one, "approval", None)
        stated = offered.get(one.number) if settles else next(made, None)
        on_it = None
        if answer is not None:
            on_it = (accepted.get(one.number) or refused.get(one.number)) if settles else next(answered, None)
        said.append({
            "number": one.number, "outcome": one.outcome, "reason": one.reason, "by": one.proposer, "role": one.role, "at": _time(one.at),
            "to_pay_back": amount(one.amount_minor, one.currency), "assessment": one.assessment_digest or None,
            "leaf_index": stated.leaf_index if stated else None,
            "answer": None if answer is None else {
                "result": answer.result, "reason": answer.reason, "by": answer.approver, "role": answer.role, "at": _time(answer.at),
                "leaf_index": on_it.leaf_index if on_it else None,
            },
        })  # fmt: skip
    return {"proposals": said}


def custody_paper(steps: Sequence[Transition], entries: Sequence[Entry]) -> dict[str, Any]:
    """Every step, chained by hash; and beside the steps all else that was done with the case or its evidence, as the log
    states it.
    """
    return {
        "steps": [
            {"position": step.position, "from": step.from_state, "to": step.to_state, "by": step.actor, "role": step.role, "reason": step.reason,
             "at": _time(step.at), "previous": step.previous, "digest": step.digest, "leaf_index": step.leaf_index}
            for step in steps
        ],
        "entries": [
            {"leaf_index": one.leaf_index, "at": _time(one.at), "said": one.body} for one in entries if one.body.get("change") != "case.moved"
        ],
    }  # fmt: skip


def deadlines_paper(case: Case) -> dict[str, Any]:
    return {
        "deadlines": [
            {"kind": one.kind, "source": one.source, "basis": one.basis, "zone": one.zone, "begins_at": _time(one.begins_at), "due_at": _time(one.due_at),
             "state": one.state, "of_state": one.of_state or None, "why": one.why or None}
            for one in case.deadlines.order_by("id")
        ],
    }  # fmt: skip


def evidence_paper(case: Case) -> dict[str, Any]:
    return {
        "items": [
            {"number": item.number, "side": item.side, "title": item.title, "event_id": str(item.event_id) if item.event_id else None,
             "file": None if item.event_id else f"case/evidence/{item.number}.bin", "name": item.name or None,
             "media_type": item.media_type or None, "sha256": item.sha256, "by": item.actor, "role": item.role, "staged_leaf": item.staged_leaf,
             "submitted_at": _time(item.submitted_at), "submitted_leaf": item.submitted_leaf, "late": item.is_late,
             "upstream_valid": item.upstream_valid, "eligible": item.eligible, "why": item.eligible_why or None}
            for item in case.evidence.filter(submitted_at__isnull=False).defer("body").order_by("number")
        ],
    }  # fmt: skip


def assessments_paper(case: Case, last: Assessment) -> dict[str, Any]:
    return {
        "sealed": {"at": _time(case.sealed_at), "before_leaf": case.sealed_position, "digest": case.sealed_digest} if case.sealed_at else None,
        "runs": [
            {"number": run.number, "at": _time(run.at), "digest": run.digest, "before_leaf": run.position, "by": run.actor or None, "why": run.reason or None,
             "changes": [change._asdict() for change in changes(last.verdicts, run.verdicts)]}
            for run in case.assessments.order_by("number")
        ],
    }  # fmt: skip


def notices_paper(case: Case, grounds: dict[str, Any], until: datetime) -> dict[str, Any]:
    """What was told to others by the case's last entry: stop signals about its grants, tokens and parties, and answers to
    a bank; each with how far it had come by then.
    """
    keys = set(_subjects(grounds))
    signals = (
        Signal.objects.filter(tenant=case.tenant, stop__key__in={key for _, key in keys}, created_at__lte=until)
        .select_related("stop", "receiver")
        .order_by("created_at", "id")
    )
    return {
        "signals": [
            {"stop": signal.stop.ref, "subject": {"kind": signal.stop.kind, "key": signal.stop.key}, "drill": signal.stop.is_drill,
             "by": signal.stop.who, "reason": signal.stop.reason, "receiver": signal.receiver.name, "what": signal.what, "jti": signal.jti,
             "made_at": _time(signal.created_at), "sent_at": _by(signal.sent_at, until), "accepted_at": _by(signal.accepted_at, until)}
            for signal in signals if signal.stop and (signal.stop.kind, signal.stop.key) in keys
        ],
        "bank_answers": [
            {"number": one.number, "dispute": one.dispute, "receiver": one.receiver, "sha256": one.digest, "submitted": one.is_submitted,
             "accepted": one.is_accepted, "error": one.error or None, "by": one.actor, "at": _time(one.at), "leaf_index": one.leaf_index}
            for one in case.bank_answers.order_by("number")
        ],
    }  # fmt: skip


def _subjects(grounds: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for chain in grounds.get("chains", {}).get("chains", ()):
        for hop in chain["hops"]:
            yield "party", f"{hop['party']['iss']}|{hop['party']['sub']}"
            for kind in ("grant", "token"):
                if hop[kind]:
                    yield kind, hop[kind]


def access_paper(case: Case, until: datetime) -> dict[str, Any]:
    """Who took a copy out or was shown what is not shown at once, by the case's last entry, as the security log says."""
    found = told_of(case.tenant, case.ref, until=until, limit=MOST_READS)
    return {
        "log": "of security: its own, and proven by its own checkpoints",
        "entries": [
            {"leaf_index": one.leaf_index, "at": _time(one.at), "kind": one.kind, "who": one.who, "what": one.what, "result": one.result}
            for one in found if case.ref in _REFS.findall(one.what)
        ],
    }  # fmt: skip


def keys_paper(case: Case, sources: Collection[str], before: int) -> dict[str, Any]:
    """The keys of the sources whose statements are in the packet, and the log's own, as they stood at leaf `before`."""
    keys: dict[tuple[str, str], dict[str, Any]] = {}
    own: list[dict[str, Any]] = []
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, l.received_at, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = %s AND l.leaf_index < %s ORDER BY l.leaf_index",
            [case.tenant_id, EPOCH, KIND_NUMBERS["key"], before],
        )
        rows = cursor.fetchall()
    for index, at, raw in rows:
        body = json.loads(bytes(raw))
        change, key = body.get("change"), (body.get("source"), body.get("thumbprint"))
        if change == "log.key.added":
            own.append({"vkey": body["vkey"], "added_leaf": index, "added_at": _time(at)})
        elif key[0] not in sources:
            continue
        elif change == "key.added":
            known = keys.setdefault(key, {"added_leaf": index, "added_at": _time(at)})
            known |= {"kid": body.get("kid"), "jwk": body.get("jwk"), "retired_leaf": None, "retired_at": None}
        elif change == "key.retired" and key in keys:
            keys[key] |= {"retired_leaf": index, "retired_at": _time(at)}
    return {
        "before_leaf": before,
        "keys": [{"source": source, "thumbprint": stamp, **said, "state": "in use" if said["retired_leaf"] is None else "retired"}
                 for (source, stamp), said in sorted(keys.items())],
        "log_keys": own,
    }  # fmt: skip


def redaction_paper(case: Case, leaves: Sequence[int], left_out: Collection[int], why: str) -> dict[str, Any]:
    """What of the payloads is not in the packet, or was never kept, and by whose word."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT l.leaf_index, p.raw IS NULL, p.headers FROM ledger_leaf l LEFT JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.leaf_index = ANY(%s) ORDER BY l.leaf_index",
            [case.tenant_id, EPOCH, list(leaves)],
        )
        rows = cursor.fetchall()
        gone = {index for index, erased, _ in rows if erased}
        cursor.execute(
            "SELECT l.leaf_index, p.raw FROM ledger_leaf l JOIN ledger_payload p USING (tenant_id, epoch, leaf_index)"
            " WHERE l.tenant_id = %s AND l.epoch = %s AND l.event_id IS NULL AND l.kind = %s ORDER BY l.leaf_index",
            [case.tenant_id, EPOCH, KIND_NUMBERS["tombstone"]] if gone else [-1, EPOCH, 0],
        )
        tombstones = cursor.fetchall()
    erased: dict[int, dict[str, Any]] = {}
    for index, raw in tombstones:
        body = json.loads(bytes(raw))
        for leaf in gone.intersection(body.get("leaves", ())):
            erased.setdefault(
                leaf, {"leaf_index": leaf, "tombstone": index, "by": body.get("who"), "why": body.get("why")}
            )
    removed = [(index, _removed(bytes(headers or b""))) for index, _, headers in rows]
    return {
        "left_out_of_this_copy": [{"leaf_index": leaf, "why": why} for leaf in sorted(left_out)],
        "erased": [erased[leaf] for leaf in sorted(erased)],
        "removed_at_receipt": [{"leaf_index": index, "names": names} for index, names in removed if names],
        "note": "A leaf commits to the salted digest of its payload, so what was left out can still be shown later to be what the log holds.",
    }  # fmt: skip


def _removed(headers: bytes) -> str:
    found = re.search(rb"^removed: ?(.*)$", headers, re.MULTILINE)
    return found[1].decode("utf-8", "replace")[:2000] if found else ""


def missing_paper(case: Case, last: Assessment, notices: dict[str, Any], redaction: dict[str, Any]) -> dict[str, Any]:
    """What nobody has told, what would decide it, and what else a reader might look for and does not find."""
    beside = []
    if last.grounds is None:
        beside.append("chains, limits and gates: they were not kept when this case was assessed, by an older version")
    else:
        for name, counted in (("chains", last.grounds["chains"]["left_out"]), ("lines of limits", last.grounds["limits"]["lines_left_out"])):  # fmt: skip
            if counted:
                beside.append(f"{counted:,} {name} beyond those that a packet holds")
    if not last.words:
        beside.append("a statement in the log of the words of the assessment: an older version stated its digests only")
    staged = case.evidence.filter(submitted_at=None).count()
    if staged:
        beside.append(f"{staged:,} items that were staged and not submitted")
    if not notices["signals"]:
        beside.append("a notice to a provider about these grants, tokens or parties: none was sent from here")
    for name, words in (("left_out_of_this_copy", "left out of this copy"), ("erased", "erased")):
        if redaction[name]:
            beside.append(
                f"the payloads of {len(redaction[name]):,} leaves, which were {words}: see case/redaction.json"
            )
    return {"missing": [*_unknown(last)], "beside": beside}


def _unknown(last: Assessment) -> Iterator[dict[str, Any]]:
    for verdict in last.verdicts:
        unknown = [c for c in verdict["criteria"] if c["result"] == "unknown"]
        if unknown:
            yield {
                "event_id": verdict["event_id"], "unknown": [{"criterion": c["id"], "why": c["reason"]} for c in unknown],
                "would_change": verdict["would_change"],
            }  # fmt: skip


def amount(minor: int | None, currency: str) -> dict[str, Any] | None:
    return None if minor is None else {"amount_minor": plain(minor), "currency": currency or None}


def _time(at: datetime | None) -> str | None:
    return at.isoformat() if at is not None else None


def _by(at: datetime | None, until: datetime) -> str | None:
    return _time(at) if at is not None and at <= until else None
