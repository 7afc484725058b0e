"""How a tenant has set its rules: the last version that a checkpoint covers. One that its leaf denies is refused."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from django.db.models import QuerySet

from auditlog.core.errors import ConfigurationDiffers, ConfigurationError
from auditlog.core.policy import Policy, Setting, read_policy
from auditlog.database import published
from auditlog.detectors import DETECTORS
from auditlog.models import Payload, RulePolicy, Tenant

Policies = Mapping[str, Policy]
_followed: ContextVar[tuple[int, Policies] | None] = ContextVar("policies", default=None)
RULES = tuple(dict.fromkeys(detector.rule for detector in DETECTORS))


def settings_of(rule: str) -> tuple[Setting, ...]:
    """What can be set of a rule. Raises ConfigurationError for a rule that there is not."""
    found = [detector for detector in DETECTORS if detector.rule == rule]
    if not found:
        raise ConfigurationError(f"no rule {rule[:60]!r}; there are: {', '.join(RULES)}")
    return tuple({s.name: s for detector in found for s in getattr(detector, "settings", ())}.values())


def policies_of(tenant: Tenant) -> Policies:
    """By rule, how it is set now; rules that come as they are, are not in it."""
    followed = _followed.get()
    if followed is not None and followed[0] == tenant.pk:
        return followed[1]
    return _read(tenant, _in_force(tenant).order_by("rule", "-version").distinct("rule"))


def _in_force(tenant: Tenant) -> QuerySet[RulePolicy]:
    """The versions that a published checkpoint covers."""
    return RulePolicy.objects.filter(tenant=tenant, leaf_index__lt=published.covered(tenant.pk))


def every_policy(tenant: Tenant) -> list[Policy]:
    """How each rule is set, also those that come as they are, by name."""
    now = policies_of(tenant)
    return [now.get(rule) or Policy(rule) for rule in sorted(RULES)]


@contextmanager
def following(tenant: Tenant, policies: Policies) -> Iterator[None]:
    """For a round, which follows the policies that it began with; and for a back-test, which tries another one."""
    token = _followed.set((tenant.pk, policies))
    try:
        yield
    finally:
        _followed.reset(token)


def policy_of(tenant: Tenant, rule: str) -> Policy:
    """How one rule is set. Raises ConfigurationError for a rule that there is not."""
    settings_of(rule)
    newest = _in_force(tenant).filter(rule=rule).order_by("-version")[:1]
    return _read(tenant, newest).get(rule) or Policy(rule)


def _read(tenant: Tenant, newest: Iterable[RulePolicy]) -> dict[str, Policy]:
    """Raises ConfigurationDiffers where the leaf of one says something else, or nothing."""
    rows = list(newest)
    leaves = [row.leaf_index for row in rows]
    stated = dict(
        Payload.objects.filter(tenant=tenant, leaf_index__in=leaves).values_list("leaf_index", "raw") if leaves else ()
    )
    for row in rows:
        raw = stated.get(row.leaf_index)
        said = json.loads(bytes(raw)) if raw is not None else {}
        if (said.get("change"), said.get("rule"), said.get("version"), said.get("policy")) != (
            "rule policy.set", row.rule, row.version, json.dumps(row.data, sort_keys=True),
        ):  # fmt: skip
            raise ConfigurationDiffers(f"policy {row.version} of {row.rule} is not what leaf {row.leaf_index} states")
    return {
        row.rule: read_policy(row.rule, row.data, settings_of(row.rule), version=row.version, leaf_index=row.leaf_index)
        for row in rows
    }
