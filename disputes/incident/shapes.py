"""Wire forms of incidents."""

from datetime import datetime
from typing import Any

from rest_framework import serializers as s

from auditlog.core.incident import DESKS
from auditlog.incidents.handle import LONGEST, LONGEST_AWAY, MOST_BY_HAND
from auditlog.incidents.read import IncidentReading, is_away
from auditlog.models import Incident, IncidentStep
from disputes.incident.read import PLACE, Told, is_place

STATES = [value for value in Incident.State.values if value != "merged"]


class IncidentFilter(s.Serializer):
    state = s.ChoiceField(STATES, required=False)
    owner = s.CharField(max_length=150, required=False, help_text="A name; `me`; `none` for those that nobody owns.")
    desk = s.ChoiceField(DESKS, required=False, help_text="By the rules of the findings in it.")
    due_before = s.DateTimeField(required=False, help_text="Something has to be done before this, and can still be.")
    principal = s.CharField(max_length=700, required=False, help_text="`iss|sub`")
    since = s.DateTimeField(required=False, help_text="Opened at or after.")
    away = s.ChoiceField(
        ["yes", "no"], required=False, help_text="`no`: those in the queue, without what is snoozed or suppressed."
    )
    order = s.ChoiceField(["newest", "due"], required=False, help_text="`due`: the first date, then the most money.")
    before = s.RegexField(PLACE, required=False, help_text="Taken from `next`.")
    limit = s.IntegerField(min_value=1, max_value=200, required=False)

    def validate(self, attrs: dict) -> dict:
        if unknown := set(self.initial_data) - set(self.fields) - {"format"}:
            raise s.ValidationError(f"no filter {', '.join(sorted(unknown))[:80]}; there are: {', '.join(self.fields)}")
        if (before := attrs.get("before")) and not is_place(before, order=attrs.get("order", "newest")):
            raise s.ValidationError({"before": ["expected a value taken from `next` of the same order"]})
        return attrs


class AssignRequest(s.Serializer):
    owner = s.CharField(
        max_length=150, allow_null=True, allow_blank=True, help_text="Who owns it from now on; null: nobody."
    )


class NoteRequest(s.Serializer):
    text = s.CharField(max_length=LONGEST)


class CloseRequest(s.Serializer):
    outcome = s.ChoiceField(Incident.Outcome.choices)
    reason = s.CharField(max_length=LONGEST)


class SnoozeRequest(s.Serializer):
    days = s.IntegerField(
        min_value=1, max_value=LONGEST_AWAY, required=False, help_text="At most; else until it grows."
    )
    reason = s.CharField(max_length=LONGEST, required=False, allow_blank=True)


class SuppressRequest(s.Serializer):
    days = s.IntegerField(min_value=1, max_value=LONGEST_AWAY)
    reason = s.CharField(max_length=LONGEST)


class BringBackRequest(s.Serializer):
    pass


class ReopenRequest(s.Serializer):
    reason = s.CharField(max_length=LONGEST)


class MergeRequest(s.Serializer):
    other = s.CharField(max_length=20, help_text="The reference of the other one; the older of both stays.")
    reason = s.CharField(max_length=LONGEST)


class SplitRequest(s.Serializer):
    findings = s.ListField(child=s.IntegerField(min_value=1), min_length=1, max_length=MOST_BY_HAND)
    reason = s.CharField(max_length=LONGEST)


class IncidentParty(s.Serializer):
    iss = s.CharField(allow_null=True)
    sub = s.CharField()
    hidden = s.BooleanField(
        required=False, help_text="Whether this is a stub for somebody whom the caller may not see."
    )


class IncidentActor(s.Serializer):
    party = IncidentParty()
    acts = s.IntegerField()
    spent_minor = s.IntegerField(allow_null=True)
    share = s.FloatField(
        allow_null=True, help_text="Of the money, where there is some in one currency; else of the acts."
    )


class IncidentSum(s.Serializer):
    currency = s.CharField()
    spent_minor = s.IntegerField(allow_null=True)
    at_most_minor = s.IntegerField(allow_null=True)
    over_minor = s.IntegerField(allow_null=True)


class IncidentMoney(s.Serializer):
    currency = s.CharField(
        allow_null=True, help_text="Null where there is none, or several: then `by_currency` has each."
    )
    spent_minor = s.IntegerField(allow_null=True, help_text="What the books say of its acts, each obligation once.")
    at_most_minor = s.IntegerField(
        allow_null=True, help_text="Where it is not sure that two lines are about one payment."
    )
    over_minor = s.IntegerField(
        allow_null=True, help_text="What was too much: of findings about the same acts the largest."
    )
    recoverable_until = s.DateTimeField(allow_null=True)
    by_currency = IncidentSum(many=True)
    unknown = s.DictField(child=s.CharField(), help_text="By field that is null: why.")


class Awaiting(s.Serializer):
    who = s.CharField(allow_null=True)
    by = s.DateTimeField(allow_null=True)


class IncidentShape(s.Serializer):
    ref = s.CharField()
    state = s.CharField(help_text="open, resolved, closed, withdrawn or merged.")
    outcome = s.CharField(allow_null=True)
    title = s.CharField(help_text="Of its worst finding.")
    severity = s.CharField()
    desks = s.ListField(child=s.CharField(), help_text="Whose it is, by its rules: security, finance, abuse, auditor.")
    principal = IncidentParty(allow_null=True)
    actors = IncidentActor(many=True)
    findings = s.ListField(child=s.IntegerField(), help_text="Those that stand and that the caller may see.")
    withdrawn = s.ListField(child=s.IntegerField())
    findings_total = s.IntegerField()
    rules = s.ListField(child=s.CharField())
    events_total = s.IntegerField(help_text="Acts that caused it, each once.")
    first_at = s.DateTimeField(allow_null=True)
    last_at = s.DateTimeField(allow_null=True)
    opened_at = s.DateTimeField()
    money = IncidentMoney()
    undo_until = s.DateTimeField(
        allow_null=True, help_text="Until when the last of it can be undone, also when it is over."
    )
    awaiting = Awaiting()
    case = s.CharField(allow_null=True, help_text="The reference of the case about it.")
    owner = s.CharField(allow_null=True)
    away = s.CharField(allow_null=True, help_text="snoozed or suppressed: not in the queue now.")
    away_until = s.DateTimeField(allow_null=True, help_text="Null where it is away: until it grows.")
    merged_into = s.CharField(allow_null=True)


class IncidentLogStep(s.Serializer):
    at = s.DateTimeField()
    incident = s.CharField(help_text="This one, or one that became part of it, to which somebody wrote this.")
    kind = s.CharField(
        help_text="opened, grew, merged, took_in, split, withdrawn, resolved, reopened, assigned, note, closed, snoozed, suppressed or returned."
    )
    by = s.CharField(allow_null=True, help_text="Null: it came of what was found.")
    role = s.CharField(allow_null=True)
    reason = s.CharField(allow_null=True)
    data = s.DictField()


class IncidentDetailShape(IncidentShape):
    log = IncidentLogStep(many=True)


class IncidentPage(s.Serializer):
    results = IncidentShape(many=True)
    next = s.URLField(allow_null=True)


class Merged(s.Serializer):
    ref = s.CharField()
    merged_into = s.CharField()


def incident_json(told: Told, *, now: datetime) -> dict[str, Any]:
    each: IncidentReading = told.incident
    money = each.money
    return {
        "ref": each.ref,
        "state": each.state,
        "outcome": each.outcome or None,
        "title": each.title,
        "severity": each.severity,
        "desks": list(each.desks),
        "principal": _party(each.principal),
        "actors": [
            {"party": _party(one.actor), "acts": one.acts, "spent_minor": one.spent_minor,
             "share": None if one.share is None else round(one.share, 4)}
            for one in each.actors
        ],
        "findings": [one.id for one in each.findings],
        "withdrawn": [one.id for one in each.withdrawn],
        "findings_total": each.total,
        "rules": list(each.rules),
        "events_total": each.events_total,
        "first_at": each.first_at,
        "last_at": each.last_at,
        "opened_at": each.opened_at,
        "money": {
            "currency": money.currency,
            "spent_minor": money.spent_minor,
            "at_most_minor": money.at_most_minor,
            "over_minor": money.over_minor,
            "recoverable_until": money.recoverable_until,
            "by_currency": [
                {"currency": currency, "spent_minor": spent, "at_most_minor": most, "over_minor": over}
                for currency, spent, most, over in money.by_currency
            ],
            "unknown": dict(money.unknown),
        },
        "undo_until": each.undo_until,
        "awaiting": told.awaiting(now),
        "case": told.case.ref if told.case is not None else None,
        "owner": each.owner or None,
        "away": each.away if is_away(each, now) else None,
        "away_until": each.away_until if is_away(each, now) else None,
        "merged_into": each.merged_into or None,
    }  # fmt: skip


def step_json(step: IncidentStep) -> dict[str, Any]:
    return {
        "at": step.at,
        "incident": step.incident.ref,
        "kind": step.kind,
        "by": step.by or None,
        "role": step.role or None,
        "reason": step.reason or None,
        "data": step.data,
    }


def _party(written: str) -> dict[str, Any] | None:
    """A party as a reading writes it; a stub has no bar in it."""
    if not written:
        return None
    issuer, bar, subject = written.partition("|")
    return {"iss": issuer, "sub": subject} if bar else {"iss": None, "sub": written, "hidden": True}
