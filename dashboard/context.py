"""What every page of the dashboard knows: the viewer, where they can go, how much is open."""

from typing import Any

from django.http import HttpRequest
from django.urls import reverse

from auditlog.reads.access import WATCH, WHOLE
from auditlog.sources.configuration import unseen_changes
from dashboard.pages.findings import open_findings

_PLACES = (
    ("overview", "Overview"),
    ("incidents", "Incidents"),
    ("findings", "Findings"),
    ("events", "Events"),
    ("sessions", "Sessions"),
    ("charges", "Spend"),
    ("explore", "Explore"),
    ("bills", "Bills"),
    ("parties", "Parties"),
    ("permissions", "Permissions"),
    ("inventory", "Inventory"),
    ("names", "Names"),
    ("cases", "Cases"),
    ("stops", "Stops"),
    ("integrity", "Integrity"),
)
# Of no use to an abuse desk, which may not see them.
_OF_WHOLE = {"bills", "explore", "permissions", "integrity", "stops"}
_WATCHED = (("security_log", "Security log"),)
_CONFIGURED = (
    ("sources", "Sources"),
    ("alerts", "Alerts"),
    ("secrets", "Secrets"),
    ("people", "People"),
    ("changes", "Changes"),
)

# What a desk opens all day; the rest of its places stand under one menu.
_OF_DESK = {
    "security": ("overview", "incidents", "findings", "events", "cases", "stops"),
    "finance": ("overview", "incidents", "charges", "bills", "cases", "events"),
    "abuse": ("overview", "incidents", "findings", "names", "events", "cases"),
    "auditor": ("overview", "incidents", "events", "cases", "integrity", "security_log"),
    "admin": ("overview", "incidents", "findings", "cases", "sources", "people"),
}

HELP_ON = {
    **dict.fromkeys(
        ("overview", "findings", "finding", "events", "event", "sessions", "timeline", "parties", "grant"), "security"
    ),
    **dict.fromkeys(("reach", "permissions", "compare", "inventory", "integrity", "security_log"), "security"),
    **dict.fromkeys(("charges", "explore", "bills", "bill", "statement"), "finance"),
    **dict.fromkeys(("cases", "case", "packets"), "cases"),
    **dict.fromkeys(("sources", "source", "formats", "secrets"), "connect"),
    **dict.fromkeys(("people", "account"), "signing-in"),
    **dict.fromkeys(("rules", "rule"), "rules"),
    **dict.fromkeys(("case_bank", "case_outcomes", "case_opening", "complaints", "case_outside"), "cases"),
    **dict.fromkeys(("incidents", "incident", "incident_verdicts"), "incidents"),
    **dict.fromkeys(("alerts", "alert_channel"), "alerts"),
    "changes": "production",
    **dict.fromkeys(("names", "name_cluster"), "abuse"),
}


def desk(request: HttpRequest) -> dict[str, Any]:
    viewer = getattr(request, "viewer", None)
    if viewer is None:
        return {}
    here = request.path
    known = [place for place in _PLACES if place[0] not in _OF_WHOLE or viewer.may(WHOLE)]
    known += _WATCHED if viewer.may(WATCH) else ()
    known += _CONFIGURED if viewer.may("configure") else ()
    places = {
        name: {
            "name": label,
            "href": (href := reverse(f"dashboard:{name}")),
            "here": here == href or (href != "/" and here.startswith(href)),
        }
        for name, label in known
    }
    first = [name for name in _OF_DESK.get(viewer.role, _OF_DESK["security"]) if name in places]
    more = [place for name, place in places.items() if name not in first]
    if getattr(request.user, "is_staff", False):  # the API's pages know a viewer only
        more.append({"name": "Configuration", "href": reverse("admin:index"), "here": False})
    told = viewer.may("configure") and viewer.user_id is not None and here != reverse("dashboard:changes")
    unseen = unseen_changes(viewer.tenant, viewer.user_id) if told else 0
    keys: dict[str, str] = {}  # `g` and a letter: the first of its name that is free
    for name in first:
        keys[name] = next(
            (letter for letter in places[name]["name"].lower() if letter.isalpha() and letter not in keys.values()), ""
        )
    return {
        "viewer": viewer,
        "nav": [places[name] | {"key": keys[name]} for name in first],
        "nav_more": more,
        "nav_here": next((place["name"] for place in more if place["here"]), ""),
        # Counted where it is shown; pages of incidents have numbers of their own.
        "open_findings": open_findings(viewer) if "findings" in first and not places["incidents"]["here"] else 0,
        "unseen_changes": unseen,
        "help_topic": HELP_ON.get(request.resolver_match.url_name if request.resolver_match else "", ""),
        "q": "",  # what was searched for, on the page that answers
    }
