"""What goes out about names to whoever can act on them: XARF v4 reports, a notice in plain words, and the fields of a
statement of reasons that a hosting provider owes whom it restricts (Regulation (EU) 2022/2065, article 17).

It names no human, agent or grant: who stands behind a name is for the registrar to say. What the record does not say is
left to whoever knows it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import xarf

from auditlog.core.errors import NotPossible
from auditlog.core.names import domain
from auditlog.core.names.background import bundled
from auditlog.core.names.lookalike import Index
from auditlog.reads.names import Bought

RELATED = 20  # names that one report may name beside its own
_PLAIN = re.compile(r"([a-z0-9]+(-[a-z0-9]+)*\.)+[a-z]{2,}\Z")  # of the schema's `domain`, which takes no A-label
_INDICATORS = {"confusable": "homograph_attack", "typo": "typosquatting"}


@dataclass(frozen=True, slots=True)
class Reporter:
    org: str
    contact: str  # an e-mail address
    domain: str

    @property
    def told(self) -> dict[str, str]:
        return {"org": self.org, "contact": self.contact, "domain": self.domain}


def xarf_reports(rows: Sequence[Bought], *, rule: str, title: str, by: Reporter, now: datetime) -> list[dict[str, Any]]:
    """One report a name (`content` / `suspicious_registration`), each valid by the package `xarf`. Raises NotPossible
    for a reporter that the schema does not take.
    """
    names = [(row, name) for row in rows if (name := _ascii(row.name))]
    reports = []
    for row, name in names:
        made = xarf.create_report(
            category="content",
            type="suspicious_registration",
            source_identifier=name,
            reporter=by.told,
            sender=by.told,
            **_said(row, name, names, rule=rule, title=title, now=now),
        )
        if made.errors:
            raise NotPossible("; ".join(f"{error.field}: {error.message}" for error in made.errors)[:500])
        told = made.report.model_dump(mode="json", by_alias=True, exclude_none=True)
        # The same name of the same finding is one report, however often it is made.
        reports.append(told | {"report_id": str(uuid5(NAMESPACE_URL, f"{by.domain} {row.event_id}"))})
    return reports


def _said(row: Bought, name: str, names: Sequence[tuple[Bought, str]], *, rule: str, title: str, now: datetime) -> dict:
    indicators = [_indicator(row)] if row.brand else []
    if rule == "squatting.bulk_registration":
        indicators.append("bulk_registration")
    others = [other for _, other in names if other != name][:RELATED]
    at = row.at.astimezone(UTC).isoformat()
    evidence = xarf.create_evidence(
        "text/plain",
        f"{title}\n{name} was registered at {at}, as its registrar's signed event {row.event_id} says.\n",
        description="What is on record of the registration",
    )
    said: dict[str, Any] = {
        "url": f"https://{name}/",
        "registration_date": row.at.astimezone(UTC).isoformat(),
        "days_since_registration": max(0, (now - row.at).days),
        "suspicious_indicators": indicators or ["other"],
        "description": f"{title}. What the name serves was not looked at.",
        "evidence_source": "automated_discovery",
        "evidence": [evidence],
        "registrant_details": {"bulk_registrations": len(names)},
        "predicted_usage": ["brand_abuse" if row.brand else "unknown"],
    }
    if _PLAIN.match(name):
        said["domain"] = name
    if row.brand:
        said["targeted_brands"] = [row.brand]
    if others:
        said["related_domains"] = [{"domain": other, "relationship": "same_campaign"} for other in others]
    return said


def _ascii(name: str) -> str:
    try:
        return domain.parse(name).ascii
    except ValueError:
        return ""


def _indicator(row: Bought) -> str:
    nearest = Index([row.brand], bundled()).nearest(row.name)
    return _INDICATORS.get(nearest.relation if nearest else "", "brand_keyword")


def notice(rows: Sequence[Bought], *, title: str, by: Reporter, now: datetime) -> str:
    """The same in plain words, for a registrar's or a host's abuse desk."""
    lines = [
        f"Notice of {now.astimezone(UTC):%Y-%m-%d %H:%M} UTC from {by.org} <{by.contact}>",
        "",
        f"{title}.",
        "What the names serve was not looked at, and who is behind them is not in this notice.",
        "",
    ]
    for row in rows:
        close = f", close to {row.brand}" if row.brand else ""
        until = _minute(row.until) if row.until else "not known"
        lines.append(f"- {row.name}: registered {_minute(row.at)}{close}; can be given back until: {until}")
    lines += [
        "",
        "Please look at them together, tell the registrant, and say what became of it.",
        "Each line rests on a signed event of the registrar:",
        *(f"- {row.name}: event {row.event_id}" for row in rows),
    ]
    return "\n".join(lines) + "\n"


def _minute(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def statement_of_reasons(rows: Sequence[Bought], *, rule: str, title: str, now: datetime) -> dict[str, Any]:
    """Fields of a statement of reasons (article 17 paragraph 3). What only the provider can state is null."""
    return {
        "regulation": "(EU) 2022/2065, article 17",
        "drawn_up_at": now.astimezone(UTC).isoformat(),
        "names": [row.name for row in rows],
        "decision": {"restriction": None, "territorial_scope": None, "duration": None},
        "facts_and_circumstances": f"{title}. What the names serve was not looked at.",
        "on_notice_or_own_initiative": None,
        "automated_means": {
            "detection": True, "decision": None, "how": f"rule {rule}, by names and times of registration",
        },
        "ground": {"is_illegal_content": None, "legal_ground": None, "terms": None, "explanation": None},
        "redress": {"internal_complaint": None, "out_of_court_dispute_settlement": None, "judicial": None},
        "to_be_stated_by_the_provider": [
            "decision", "on_notice_or_own_initiative", "automated_means.decision", "ground", "redress",
        ],
    }  # fmt: skip
