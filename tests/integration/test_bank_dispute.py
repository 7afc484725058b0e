# ruff: noqa: F811  (fixtures)
"""A case opened from a bank's dispute: about the act that was paid for, due when the bank says."""

from datetime import UTC, datetime, timedelta

import pytest

from auditlog.models import Event
from auditlog.reads.access import Viewer
from disputes.open_case import open_case
from tests.integration.test_stripe_money import CHARGE, told  # noqa: F401

DUE = datetime(2026, 12, 20, 23, 59, 59, tzinfo=UTC)
DISPUTE = {
    "id": "dp_1", "object": "dispute", "amount": 2000, "currency": "usd", "charge": "ch_1", "payment_intent": "pi_1", "status": "needs_response",
    "reason": "fraudulent", "evidence_details": {"due_by": int(DUE.timestamp()), "has_evidence": False, "past_due": False, "submission_count": 0},
}  # fmt: skip


def opened(tenant, now, **more):
    dispute = Event.objects.get(tenant=tenant, type="dispute.opened")
    viewer = Viewer(tenant, "finance", "finance-1", None, "", (1,))
    return open_case(viewer, event_ids=[dispute.event_id], kind="amount", title="Chargeback", now=now, **more)


def test_it_is_about_the_charge_and_due_when_the_bank_says(told, tenant, now):
    told(("charge.succeeded", CHARGE), ("charge.dispute.created", DISPUTE))
    case = opened(tenant, now)

    [act] = case.acts.all()
    assert Event.objects.get(tenant=tenant, event_id=act.event_id).type == "payment.captured"
    [deadline] = case.deadlines.filter(of_state="")
    assert deadline.due_at == DUE and deadline.basis == "the network's own date for dispute dp_1, reason fraudulent"


def test_a_dispute_of_a_charge_that_nobody_told_of_is_its_own_ground(told, tenant, now):
    told(("charge.dispute.created", DISPUTE | {"evidence_details": None, "reason": None}))
    case = opened(tenant, now)

    assert Event.objects.get(tenant=tenant, event_id=case.acts.get().event_id).type == "dispute.opened"
    assert not case.deadlines.filter(of_state="").exists()


@pytest.mark.parametrize("due", [int((DUE - timedelta(days=90)).timestamp()), -5, 10**18, "soon"])
def test_a_date_that_is_over_or_none_sets_no_deadline(told, tenant, now, due):
    told(("charge.succeeded", CHARGE), ("charge.dispute.created", DISPUTE | {"evidence_details": {"due_by": due}}))
    assert not opened(tenant, now).deadlines.filter(of_state="").exists()
