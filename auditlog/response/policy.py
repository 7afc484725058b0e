"""Response policies: what is stopped without waiting for a person. Two people make one live.

A policy acts on findings from its beginning on, once on each. It stops the grant or the party that the finding names, through
receivers of events only; what an API would be asked to undo was named by senders, and a person looks first. Whoever may stop
may take a policy back, and two people lift what it stopped.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import structlog
from django.db import transaction
from django.db.models import QuerySet

from auditlog.core.errors import AnswerableError, ConfigurationError, NotPermitted, NotPossible
from auditlog.core.person import may_be_one
from auditlog.detectors import DETECTORS
from auditlog.models import Finding, ResponsePolicy, Role, Stop
from auditlog.reads.access import Viewer, person_of
from auditlog.response.stop import press
from auditlog.sources.configuration import binds, refuse_if_differs, state
from auditlog.sources.configure import checked

log = structlog.get_logger()
SEVERITIES = [level.value for level in Finding.Severity]
SUBJECTS = ("grant", "party")
OPEN = [Finding.State.OPEN, Finding.State.ACKNOWLEDGED]
KEPT = 1_000  # findings of a dry run
MOST = 20  # stops of one policy in one round


@transaction.atomic
def add(viewer: Viewer, name: str, *, now: datetime, **more: Any) -> ResponsePolicy:
    """A new policy, as a dry run. Raises NotPermitted or ConfigurationError."""
    viewer.must("configure")
    policy = ResponsePolicy(tenant=viewer.tenant, name=name, mode=ResponsePolicy.Mode.DRY_RUN, since=now, **more)
    checked(policy)
    rules = {detector.rule for detector in DETECTORS}
    if policy.rule not in rules:
        raise ConfigurationError(f"rule: {policy.rule[:80]!r} is none; there are: {', '.join(sorted(rules))}")
    if policy.severity not in SEVERITIES or policy.subject not in SUBJECTS:
        raise ConfigurationError(
            f"severity is one of {', '.join(SEVERITIES)}, and subject one of {', '.join(SUBJECTS)}"
        )
    if (policy.minimum_minor is None) != (not policy.currency):
        raise ConfigurationError("a minimum amount is in a currency: expected both or none")
    if ResponsePolicy.objects.filter(tenant=viewer.tenant, name=name).exists():
        raise ConfigurationError(f"there is a response policy {name!r} already")
    policy.save()
    state(viewer.tenant, policy, {"change": "response policy.added", "name": name}, now=now)
    return policy


@transaction.atomic
def set_mode(viewer: Viewer, policy: ResponsePolicy, mode: str, *, now: datetime) -> ResponsePolicy:
    """Switch it off or to a dry run at once. To make it live one person asks and another agrees. Raises NotPermitted."""
    viewer.must("configure")
    held = ResponsePolicy.objects.select_for_update().get(pk=policy.pk, tenant=viewer.tenant)
    person, change = person_of(viewer), f"response policy.{mode}"
    if mode not in ResponsePolicy.Mode.values:
        raise ConfigurationError(f"a policy is one of {', '.join(ResponsePolicy.Mode.values)}")
    if mode != ResponsePolicy.Mode.LIVE:
        held.mode, held.asked_person, held.asked_who, held.would, held.since = mode, "", "", [], now
    elif held.mode == ResponsePolicy.Mode.LIVE:
        raise NotPossible(f"{held.name} is live already")
    elif not held.asked_person:
        held.asked_person, held.asked_who, change = person, viewer.name, "response policy.asked_live"
    elif may_be_one(person, held.asked_person):
        raise NotPermitted(f"{held.asked_who} asked for it: another person makes {held.name} live")
    else:
        held.mode, held.since, held.asked_person, held.asked_who = mode, now, "", ""
    held.save()
    state(held.tenant, held, {"change": change, "name": held.name}, now=now)
    return held


def respond_to_findings(*, now: Callable[[], datetime]) -> list[Stop]:
    """What the policies of all tenants do about findings that they have not acted on."""
    stops = []
    for policy in ResponsePolicy.objects.select_related("tenant").exclude(mode=ResponsePolicy.Mode.OFF).order_by("id"):
        try:
            refuse_if_differs(policy.tenant, ("response policy", policy.pk))
            if binds(policy.tenant, ("response policy", policy.pk)) is None:
                stops += _respond(policy, now=now())
        except AnswerableError as error:
            log.error(
                "response policy not followed", tenant=policy.tenant.name, policy=policy.name, reason=str(error)[:200]
            )
    return stops


def _respond(policy: ResponsePolicy, *, now: datetime) -> list[Stop]:
    found = Finding.objects.filter(
        tenant=policy.tenant, rule=policy.rule, state__in=OPEN, detected_at__gte=policy.since or policy.created_at,
        severity__in=SEVERITIES[SEVERITIES.index(policy.severity) :],
    )  # fmt: skip
    if policy.minimum_minor is not None:
        found = found.filter(currency=policy.currency, money_at_risk_minor__gte=policy.minimum_minor)
    named = "grant" if policy.subject == "grant" else "actor"
    found = found.exclude(**{named: ""}).order_by("id")
    if policy.mode == ResponsePolicy.Mode.DRY_RUN:
        _note(policy, found.exclude(pk__in=[entry["finding"] for entry in policy.would]), named, now=now)
        return []
    # What is stopped already, by whomever, is not asked for again each second.
    stopped = Stop.objects.filter(
        tenant=policy.tenant, kind=policy.subject, is_drill=False, state=Stop.State.IN_FORCE
    ).values("key")
    found = found.exclude(pk__in=Stop.objects.filter(policy_id=policy.pk).values("finding_id"))
    found = found.exclude(**{f"{named}__in": stopped})
    return [stop for finding in found[:MOST] for stop in _stopped(policy, finding, getattr(finding, named), now=now)]


def _note(policy: ResponsePolicy, found: QuerySet[Finding], named: str, *, now: datetime) -> None:
    """What a dry run would have stopped, up to KEPT: more than that nobody reads before deciding."""
    room = KEPT - len(policy.would)
    new = [
        {"finding": one.pk, "at": now.isoformat(), "key": getattr(one, named), "title": one.title[:200]}
        for one in (found[:room] if room > 0 else ())
    ]
    if new:
        policy.would = [*reversed(new), *policy.would]
        policy.save(update_fields=["would"])


def _stopped(policy: ResponsePolicy, finding: Finding, key: str, *, now: datetime) -> list[Stop]:
    viewer = Viewer(policy.tenant, Role.SECURITY, f"policy {policy.name}")
    reason = f"policy {policy.name}: {finding.rule}, finding {finding.pk}: {finding.title}"[:2_000]
    try:
        return [press(viewer, policy.subject, key, reason=reason, now=now, finding=finding, policy_id=policy.pk)]
    except (NotPossible, NotPermitted):  # it is stopped already
        return []
