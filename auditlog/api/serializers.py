"""The API's shapes. Reads only: deliveries never pass a serializer."""

from typing import Any

from rest_framework import serializers

from auditlog.core.reading import Reading
from auditlog.detection.findings.triage import LABELS
from auditlog.detectors import runbook_of
from auditlog.models import Event

TRIAGED = ("open", "acknowledged", "resolved", "false_positive")  # states that people give a finding


class EventSerializer(serializers.BaseSerializer):
    """One event as the list and the detail give it."""

    def to_representation(self, event: Event) -> dict[str, Any]:
        sight = self.context["sight"]
        party = sight.party
        money = None
        if event.amount_minor is not None:
            money = {
                "amount_minor": event.amount_minor,
                "currency": event.currency,
                "phase": event.phase,
                "rail": event.rail,
                "charge": event.charge or None,
                "invoice": event.invoice or None,
                "authority": event.payment_authority or None,
            }
        return {
            "id": str(event.event_id),
            "source": event.source,
            "source_event_id": event.source_event_id,
            "leaf_index": event.leaf_index,
            "type": event.type,
            "occurred_at": event.occurred_at,
            "received_at": event.received_at,
            "outcome": event.outcome,
            "environment": event.environment,
            "principal": party(event.principal, claimed=event.principal_claimed),
            "actor": party(event.actor, kind=event.actor_kind),
            "provider": event.provider or None,
            "account": event.account or None,
            "verb": event.verb or None,
            "target": {"type": event.target_type or None, "id": event.target} if event.target else None,
            "resource": event.resource or None,
            "money": money,
            "grant": (event.via_grant if sight.seen is None else event.grant) or None,  # a desk: as the event states it
            "token": event.token or None,
            "txn": event.txn or None,
            "session": event.session or None,
            "task": event.task or None,
            "request_id": event.request_id or None,
            "grade": event.grade,
            "within_remit": event.within_remit,
            "chain": {"complete": event.chain_complete, "proven": event.chain_proven, "depth": event.chain_depth},
            "projected": True,
        }


class FindingSerializer(serializers.BaseSerializer):
    """A finding as its viewer reads it: takes readings (read_findings), never rows."""

    def to_representation(self, finding: Reading) -> dict[str, Any]:
        money = None
        if finding.money_at_risk_minor is not None:
            money = {"amount_minor": finding.money_at_risk_minor, "currency": finding.currency or None}
        return {
            "id": finding.id,
            "rule": finding.rule,
            "rule_version": finding.rule_version,
            "severity": finding.severity,
            "state": finding.state,
            "title": finding.title,
            "principal": _named(finding.principal),
            "actor": _named(finding.actor),
            "grant": finding.grant or None,
            "provider": finding.provider or None,
            "event_ids": list(finding.events),  # of very many the first; /findings/<id>/events has all
            "leaves": list(finding.leaves),
            "events_total": finding.total,
            "others": finding.others,  # events it rests on beside those, which the caller may not see
            "money_at_risk": money,
            "first_at": finding.first_at,
            "last_at": finding.last_at,
            "detected_at": finding.detected_at,
            "withdrawn_by_leaf": finding.withdrawn_by_leaf,
            "evidence": finding.evidence,
            "runbook": runbook_of(finding, self.context.get("now")),
            "withheld": list(finding.withheld),
            "incident": self.context.get("incidents", {}).get(finding.id),
        }


def _named(written: str) -> dict[str, Any] | None:
    """A party as a reading writes it; a stub has no bar in it."""
    if not written:
        return None
    issuer, bar, subject = written.partition("|")
    return {"iss": issuer, "sub": subject} if bar else {"iss": None, "sub": written, "hidden": True}


class TriageSerializer(serializers.Serializer):
    state = serializers.ChoiceField(choices=TRIAGED)
    reason = serializers.CharField(max_length=4000)
    label = serializers.ChoiceField(
        choices=LABELS, required=False, default="", allow_blank=True, help_text="What the finding was"
    )
