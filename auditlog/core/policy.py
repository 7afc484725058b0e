"""Policies of rules: what a tenant may tune of a detector, as versioned data. Pure.

A rule has settings of its own, each within bounds; and every rule can be switched off, made milder, silent below an
amount, or silent for some parties, with the reason. A policy changes what is found, never what a verdict says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from auditlog.core.errors import ConfigurationError
from auditlog.core.finding import SEVERITIES, Finding

MOST_EXEMPT, MOST_TESTS, MOST_TEXT = 500, 500, 4_000
_FIELDS = ("principal", "actor", "provider", "grant")
_KEYS = ("enabled", "severity", "least_minor", "settings", "exempt", "runbook", "false_positives", "tests")


@dataclass(frozen=True, slots=True)
class Setting:
    """A number that a rule reads. `unit`: as `hours`, `minor units`, `charges`."""

    name: str
    default: float
    least: float
    most: float
    unit: str
    words: str


@dataclass(frozen=True, slots=True)
class Exemption:
    """What a rule is silent for: findings that equal all that is stated here. `until`: exclusive."""

    why: str
    principal: str = ""
    actor: str = ""
    provider: str = ""
    grant: str = ""
    until: datetime | None = None

    def covers(self, finding: Finding, *, now: datetime) -> bool:
        if self.until is not None and now >= self.until:
            return False
        return all(not (stated := getattr(self, name)) or (getattr(finding, name) or "") == stated for name in _FIELDS)


@dataclass(frozen=True, slots=True)
class Case:
    """What a policy is to find, or not to: a finding by its number."""

    finding: int
    raised: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """How one rule is set. `version` 0: as it comes."""

    rule: str
    version: int = 0
    enabled: bool = True
    severity: str = ""  # at most this; "": as the rule says
    least_minor: int = 0  # of money at risk, where it is stated
    settings: Mapping[str, float] = field(default_factory=dict)
    exempt: tuple[Exemption, ...] = ()
    runbook: str = ""
    false_positives: str = ""
    tests: tuple[Case, ...] = ()
    leaf_index: int = -1  # that states it

    def kept(self, findings: Iterable[Finding], *, now: datetime) -> list[Finding]:
        """What is left of what a rule found."""
        if not self.enabled:
            return []
        return [
            self._milder(each)
            for each in findings
            if not (each.money_at_risk_minor is not None and each.money_at_risk_minor < self.least_minor)
            and not any(one.covers(each, now=now) for one in self.exempt)
        ]

    def _milder(self, finding: Finding) -> Finding:
        if self.severity and SEVERITIES.index(finding.severity) > SEVERITIES.index(self.severity):
            return replace(finding, severity=self.severity)
        return finding

    def as_json(self) -> dict[str, Any]:
        return {
            "enabled": self.enabled,
            "severity": self.severity or None,
            "least_minor": self.least_minor,
            "settings": dict(self.settings),
            "exempt": [
                {name: value for name in _FIELDS if (value := getattr(one, name))}
                | {"why": one.why}
                | ({"until": one.until.isoformat()} if one.until else {})
                for one in self.exempt
            ],
            "runbook": self.runbook,
            "false_positives": self.false_positives,
            "tests": [{"finding": one.finding, "raised": one.raised} for one in self.tests],
        }


def read_policy(rule: str, said: Any, settings: Sequence[Setting], *, version: int = 0, leaf_index: int = -1) -> Policy:
    """A policy from its JSON. Raises ConfigurationError that names the field, what was found and what was expected."""
    if not isinstance(said, dict):
        raise ConfigurationError(f"a policy is an object, found {_kind(said)}")
    if unknown := sorted(set(said) - set(_KEYS)):
        raise ConfigurationError(f"{unknown[0][:60]}: a policy has {', '.join(_KEYS)}")
    severity = said.get("severity") or ""
    if severity not in ("", *SEVERITIES):
        raise ConfigurationError(f"severity: expected one of {', '.join(SEVERITIES)}, found {str(severity)[:40]!r}")
    enabled = said.get("enabled", True)
    if not isinstance(enabled, bool):
        raise ConfigurationError(f"enabled: expected true or false, found {_kind(enabled)}")
    least = said.get("least_minor", 0)
    if not isinstance(least, int) or isinstance(least, bool) or not 0 <= least < 2**63:
        raise ConfigurationError("least_minor: expected a whole number of minor units, 0 or more")
    return Policy(
        rule,
        version,
        enabled,
        severity,
        least,
        _settings(said.get("settings", {}), settings),
        tuple(_exemption(one, place) for place, one in enumerate(_list(said, "exempt", MOST_EXEMPT))),
        _text(said, "runbook"),
        _text(said, "false_positives"),
        tuple(_case(one, place) for place, one in enumerate(_list(said, "tests", MOST_TESTS))),
        leaf_index,
    )


def _settings(said: Any, settings: Sequence[Setting]) -> dict[str, float]:
    if not isinstance(said, dict):
        raise ConfigurationError(f"settings: expected an object, found {_kind(said)}")
    known = {setting.name: setting for setting in settings}
    found = {}
    for name, value in said.items():
        setting = known.get(name)
        if setting is None:
            there = ", ".join(known) or "none"
            raise ConfigurationError(f"settings.{str(name)[:60]}: this rule has no such setting; there are: {there}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not setting.least <= value <= setting.most:
            expected = f"{setting.least:g} to {setting.most:g} {setting.unit}"
            raise ConfigurationError(f"settings.{name}: expected {expected}, found {str(value)[:40]}")
        found[name] = value
    return found


def _exemption(said: Any, place: int) -> Exemption:
    where = f"exempt[{place}]"
    if not isinstance(said, dict):
        raise ConfigurationError(f"{where}: expected an object, found {_kind(said)}")
    if unknown := sorted(set(said) - {*_FIELDS, "why", "until"}):
        raise ConfigurationError(f"{where}.{unknown[0][:60]}: expected {', '.join(_FIELDS)}, why, until")
    stated = {name: said[name] for name in _FIELDS if said.get(name)}
    if not stated or not all(isinstance(value, str) and len(value) <= 1_000 for value in stated.values()):
        raise ConfigurationError(f"{where}: expected at least one of {', '.join(_FIELDS)}, as text")
    why = said.get("why")
    if not isinstance(why, str) or not why.strip() or len(why) > MOST_TEXT:
        raise ConfigurationError(f"{where}.why: somebody will ask why it is silent")
    until = None
    if said.get("until") is not None:
        try:
            until = datetime.fromisoformat(str(said["until"]))
        except ValueError:
            raise ConfigurationError(f"{where}.until: expected a time as 2026-12-31T00:00:00+00:00") from None
        until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return Exemption(why.strip(), **stated, until=until)


def _case(said: Any, place: int) -> Case:
    finding, raised = (said.get("finding"), said.get("raised")) if isinstance(said, dict) else (None, None)
    if not isinstance(finding, int) or isinstance(finding, bool) or not isinstance(raised, bool):
        raise ConfigurationError(f"tests[{place}]: expected {{finding: number, raised: true or false}}")
    return Case(finding, raised)


def _list(said: Mapping[str, Any], name: str, most: int) -> list[Any]:
    found = said.get(name, [])
    if not isinstance(found, list) or len(found) > most:
        raise ConfigurationError(f"{name}: expected a list of at most {most}")
    return found


def _text(said: Mapping[str, Any], name: str) -> str:
    found = said.get(name, "")
    if not isinstance(found, str) or len(found) > MOST_TEXT:
        raise ConfigurationError(f"{name}: expected text of at most {MOST_TEXT:,} characters")
    return found.strip()


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(
        type(value), "a number"
    )


def setting_of(policies: Mapping[str, Policy], rule: str, setting: Setting) -> float:
    """What a rule reads for one of its settings: as its policy says, else the default."""
    policy = policies.get(rule)
    return setting.default if policy is None else policy.settings.get(setting.name, setting.default)
