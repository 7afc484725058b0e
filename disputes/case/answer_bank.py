"""Answer a bank: what the record says of a disputed payment, staged at Stripe and submitted once, under the key of a
receiver of kind `stripe`.

The draft is made of the case's record (`core/bank_answer.py`); people may change its words before it goes out, and what
went out is kept, with who sent it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import rfc8785
import stripe
from django.db import transaction

from auditlog.core.chain.act import Act
from auditlog.core.chain.use import answers_for
from auditlog.core.errors import ConfigurationError, NotFound, NotPermitted, NotPossible, UnexpectedAnswer
from auditlog.core.wire.request import Request
from auditlog.models import Receiver
from auditlog.reads.access import WHOLE, Viewer, person_of
from auditlog.reads.acts import load_acts
from auditlog.response.deliver import BOUNDS, STRIPE, secret_of
from auditlog.sources import outbound
from auditlog.sources.configuration import refuse_unless_in_force
from disputes.case.bank import BankDispute, disputes_of_charges
from disputes.case.bank_facts import (
    RAIL,
    cards_of,
    charges_alike,
    deed_of,
    earlier_acts,
    endings_of,
    refunds_of,
)
from disputes.case.deadline import note_first
from disputes.case.locked import locked
from disputes.case.record_step import conflict_of, note_of_case
from disputes.core.bank_answer import Answer, Asked, answer_to, faults_of
from disputes.gather_evidence import gather
from disputes.models import BankAnswer, Case, Deadline

ANSWERABLE = ("needs_response", "warning_needs_response")
_NO_ANSWER = ("withdrawn", "merged", "not_eligible")


@dataclass(frozen=True, slots=True)
class Draft:
    """`why_not`: why it cannot be sent as things are; "" where it can."""

    asked: Asked
    answer: Answer
    sent: list[BankAnswer]
    receivers: list[str]
    why_not: str


def bank_dispute_of(case: Case) -> BankDispute | None:
    """The newest dispute that a bank opened about a payment of the case."""
    acts = _contested(case)
    charges = {act.charge for act in acts if act.rail == RAIL}
    told = disputes_of_charges(case.tenant, RAIL, charges)
    return told[0] if told else None


def draft(case: Case, viewer: Viewer, *, verdicts: Sequence[Mapping[str, Any]], now: datetime) -> Draft:
    """What can be answered, from the record and from `verdicts` of the case. Raises NotPermitted, or NotFound where no
    bank asks.
    """
    viewer.must("case")
    viewer.must(WHOLE)
    told = bank_dispute_of(case)
    if told is None:
        raise NotFound(f"no bank's dispute of a payment in {case.ref} is on record")
    acts = [act for act in _contested(case) if act.charge in ("", told.charge) or act.rail != RAIL]
    evidence = gather(case.tenant, [act.event_id for act in acts])
    record = evidence.record
    by_event = {verdict["event_id"]: verdict for verdict in verdicts}
    done = {act.event_id: answers_for(act, record) for act in evidence.acts}
    deeds = [deed_of(act, done[act.event_id], record, by_event.get(act.event_id, {})) for act in evidence.acts]
    cards = cards_of(case, told, evidence.acts, record)
    paid = next((one for one in cards if one.charge == told.charge), None)
    opened = told.opened_at or case.opened_at
    asked = Asked(
        told.id, told.reason, told.network_reason, told.status, told.due, opened, told.eligible, told.submissions, paid
    )
    answer = answer_to(
        asked,
        deeds,
        case=case.ref,
        earlier=earlier_acts(case, list(done.values()), record),
        prior=[one for one in cards if one.charge != told.charge],
        duplicates=charges_alike(list(done.values()), told, record) if told.reason == "duplicate" else None,
        returned=refunds_of(case, told) if told.reason == "credit_not_processed" else (),
        ended=endings_of(list(done.values())) if told.reason == "subscription_canceled" else (),
    )
    known = _sent(case, told)
    receivers = [receiver.name for receiver in _receivers(case)]
    why_not = _why_not(case, asked, known, receivers, now=now)
    return Draft(asked, answer, [one for one in known if one.case_id == case.pk], receivers, why_not)


def send(
    case: Case,
    viewer: Viewer,
    *,
    evidence: Mapping[str, Any],
    submit: bool,
    now: datetime,
    receiver: str = "",
    call: outbound.Call = outbound.call,
) -> BankAnswer:
    """Stage an answer at Stripe, or submit it. What Stripe said is kept, a refusal too (`is_accepted`).

    Raises NotPermitted, NotPossible, ConfigurationError naming the field, or OutboundError where nobody answered. A
    second try of the same words does nothing twice: the request bears a key made of them.
    """
    viewer.must("case")
    viewer.must(WHOLE)
    if submit:
        viewer.must("decide")
        if why := conflict_of(case, viewer):
            raise NotPermitted(why)
    told = bank_dispute_of(case)
    if told is None:
        raise NotFound(f"no bank's dispute of a payment in {case.ref} is on record")
    said = {name: value for name, value in evidence.items() if value}
    if not said:
        raise ConfigurationError("evidence: an answer says something")
    if faults := faults_of(said):
        raise ConfigurationError(f"evidence: {'; '.join(faults)}")
    sent = _sent(case, told)
    receivers = _receivers(case)
    asked = Asked(told.id, told.reason, told.network_reason, told.status, told.due, told.opened_at or case.opened_at)
    if why := _why_not(case, asked, sent, [one.name for one in receivers], now=now):
        raise NotPossible(why)
    found = next((one for one in receivers if receiver in ("", one.name)), None)
    if found is None:
        raise NotFound(f"no receiver {receiver[:48]!r} of kind stripe")
    refuse_unless_in_force(case.tenant, ("receiver", found.pk))
    error = _told_stripe(found, told.id, said, submit=submit, call=call)
    return _keep(case, viewer, told, found, said, submit=submit, error=error, now=now)


class _Guarded(stripe.HTTPClient):
    """stripe-python's requests, over our own outbound guard."""

    name = "answerable"

    def __init__(self, call: outbound.Call, *, allow_private: bool) -> None:
        super().__init__()
        self._call, self._allow_private = call, allow_private

    def request(self, method, url, headers, post_data=None, *, _usage=None):
        body = post_data if isinstance(post_data, bytes) else (post_data or "").encode()
        asked = Request(url, method.upper(), body, {str(name): str(value) for name, value in (headers or {}).items()})
        answer = self._call(asked, allow_private=self._allow_private, bounds=BOUNDS)
        return answer.body.decode("utf-8", "replace"), answer.status, dict(answer.headers)

    def close(self) -> None:
        pass


def _told_stripe(
    receiver: Receiver, dispute: str, evidence: dict[str, Any], *, submit: bool, call: outbound.Call
) -> str:
    """ "" where Stripe took it, else the reason that it gave. Raises OutboundError where that is not known."""
    client = stripe.StripeClient(
        secret_of(receiver),
        base_addresses={"api": receiver.url.rstrip("/") or STRIPE},
        http_client=_Guarded(call, allow_private=receiver.allow_private),
        max_network_retries=0,
    )
    once = sha256(rfc8785.dumps({"dispute": dispute, "evidence": evidence, "submit": submit})).hexdigest()
    try:
        client.v1.disputes.update(dispute, {"evidence": evidence, "submit": submit}, {"idempotency_key": once})
    except stripe.InvalidRequestError as error:
        return f"Stripe refused it: {error.user_message or error.code or 'no reason given'}"[:500]
    except stripe.StripeError as error:
        status = error.http_status or 0
        raise UnexpectedAnswer(
            f"{receiver.name} answered {status or 'nothing that can be read'} ({type(error).__name__})", status=status
        ) from None
    return ""


@transaction.atomic
def _keep(
    case: Case,
    viewer: Viewer,
    told: BankDispute,
    receiver: Receiver,
    evidence: dict[str, Any],
    *,
    submit: bool,
    error: str,
    now: datetime,
) -> BankAnswer:
    held = locked(case, viewer)
    digest = sha256(rfc8785.dumps(evidence)).hexdigest()
    number = held.bank_answers.count() + 1
    change = "case.bank_answer_submitted" if submit else "case.bank_answer_staged"
    said = {"change": change, "dispute": told.id, "number": number, "sha256": digest, "accepted": not error}
    leaf = note_of_case(held, viewer.name, said | ({"error": error} if error else {}), now=now)
    if submit and not error:
        ours = held.deadlines.filter(state=Deadline.State.RUNNING, of_state="", basis__contains=told.id)
        ours.update(state=Deadline.State.MET, ended_at=now, next_at=None)
        note_first(held)
    return BankAnswer.objects.create(
        tenant=held.tenant,
        case=held,
        number=number,
        dispute=told.id,
        receiver=receiver.name,
        evidence=evidence,
        digest=digest,
        is_submitted=submit,
        is_accepted=not error,
        error=error,
        person=person_of(viewer),
        actor=viewer.name,
        role=str(viewer.role),
        at=now,
        leaf_index=leaf,
    )


def _why_not(case: Case, asked: Asked, sent: Sequence[BankAnswer], receivers: Sequence[str], *, now: datetime) -> str:
    if any(one.is_submitted and one.is_accepted for one in sent):
        return f"dispute {asked.id} was answered: a bank takes one answer"
    if case.state in _NO_ANSWER:
        return f"the case is {case.state.replace('_', ' ')}"
    if asked.status and asked.status not in ANSWERABLE:
        return f"the bank asks for nothing: dispute {asked.id} is {asked.status}"
    if asked.due is not None and asked.due <= now:
        return f"the bank's time is over: it was due {asked.due:%Y-%m-%d %H:%M} UTC"
    if not receivers:
        return "no receiver of kind stripe is enabled, under whose key it would be sent"
    return ""


def _sent(case: Case, told: BankDispute) -> list[BankAnswer]:
    """What was sent about the dispute, from whichever case."""
    return list(BankAnswer.objects.filter(tenant=case.tenant, dispute=told.id))


def _receivers(case: Case) -> list[Receiver]:
    ours = Receiver.objects.filter(tenant=case.tenant, kind=Receiver.Kind.STRIPE, state=Receiver.State.ENABLED)
    return list(ours.order_by("name"))


def _contested(case: Case) -> list[Act]:
    wanted = [str(one) for one in case.acts.values_list("event_id", flat=True)]
    found = load_acts(case.tenant, wanted)
    return [found[one] for one in wanted if one in found]
