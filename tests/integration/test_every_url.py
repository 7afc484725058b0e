"""Who may open and who may change what: every address of the resolver, every role. A new address without a row fails.

A row says for each of nobody, admin, security, finance, abuse, auditor what becomes of a GET, then of a POST without a body:

    .  reached: answered, redirected, or told what is wrong with the request
    x  refused: 403
    ?  not there: 404 for this one
    -  no such method: 405
    L  asked to sign in: 401, or led to the sign-in page
"""

import re

import pytest
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from auditlog.reads.access import Viewer
from disputes.open_case import open_case
from tests.integration.test_api import Api
from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_incident_pages import now, town  # noqa: F401

ROLES = ("admin", "security", "finance", "abuse", "auditor")
OTHERS = ("admin/", "account/")  # Django's own and allauth's: tests/integration/test_signing_in.py looks at those
PROBES = ("/readyz", "/workz")  # say 503 where nothing works, as in a test
TABLE = {
    "": "L..... L-----",
    ".well-known/jwks.json": "...... ......",
    ".well-known/ssf-configuration": "...... ......",
    "account/": "L..... L.....",
    "alerts/": "L.xxxx L.xxxx",
    "alerts/<str:name>/": "L?xxxx L?xxxx",
    "api/docs": "L..... L-----",
    "api/schema": "L..... L-----",
    "api/v1/adjudications": "L----- L.....",
    "api/v1/backtests": "L----- L...xx",
    "api/v1/backtests/<int:pk>": "L???x? L-----",
    "api/v1/bills": "L...x. L-----",
    "api/v1/bills/<str:ref>/lines": "L???x? L-----",
    "api/v1/cases": "L..... L....x",
    "api/v1/cases/<str:ref>": "L..... L-----",
    "api/v1/cases/<str:ref>/approvals": "L----- L...xx",
    "api/v1/cases/<str:ref>/assessments": "L..... L....x",
    "api/v1/cases/<str:ref>/bank-answer": "L???xx L???xx",
    "api/v1/cases/<str:ref>/deadlines": "L..... L....x",
    "api/v1/cases/<str:ref>/evidence": "L..... L....x",
    "api/v1/cases/<str:ref>/evidence/<int:number>/eligible": "L----- L.....",
    "api/v1/cases/<str:ref>/evidence/<int:number>/file": "L????? L-----",
    "api/v1/cases/<str:ref>/evidence/<int:number>/submit": "L----- L????x",
    "api/v1/cases/<str:ref>/packet": "L...x. L-----",
    "api/v1/cases/<str:ref>/proposals": "L----- L....x",
    "api/v1/cases/<str:ref>/settlement/refuse": "L----- L.....",
    "api/v1/cases/<str:ref>/transitions": "L..... L....x",
    "api/v1/complaints/<str:secret>": "------ ??????",
    "api/v1/domains/score": "L----- L.....",
    "api/v1/events": "L..... L-----",
    "api/v1/events/<uuid:event_id>": "L..... L-----",
    "api/v1/events/<uuid:event_id>/chain": "L..... L-----",
    "api/v1/events/<uuid:event_id>/proof": "L????? L-----",
    "api/v1/events/<uuid:event_id>/raw": "L..... L-----",
    "api/v1/events/<uuid:event_id>/story": "L..... L-----",
    "api/v1/export/ocsf": "L...x. L-----",
    "api/v1/findings": "L..... L-----",
    "api/v1/findings/<int:finding_id>": "L..... L-----",
    "api/v1/findings/<int:finding_id>/events": "L..... L-----",
    "api/v1/findings/<int:finding_id>/triage": "L----- L.....",
    "api/v1/grants": "L...x. L-----",
    "api/v1/grants/compare": "L..... L-----",
    "api/v1/incidents": "L..... L-----",
    "api/v1/incidents/<str:ref>": "L..... L-----",
    "api/v1/incidents/<str:ref>/assign": "L----- L....x",
    "api/v1/incidents/<str:ref>/bring-back": "L----- L...xx",
    "api/v1/incidents/<str:ref>/close": "L----- L....x",
    "api/v1/incidents/<str:ref>/merge": "L----- L....x",
    "api/v1/incidents/<str:ref>/note": "L----- L....x",
    "api/v1/incidents/<str:ref>/reopen": "L----- L....x",
    "api/v1/incidents/<str:ref>/snooze": "L----- L...xx",
    "api/v1/incidents/<str:ref>/split": "L----- L....x",
    "api/v1/incidents/<str:ref>/suppress": "L----- L....x",
    "api/v1/inventory": "L..... L-----",
    "api/v1/limits": "L...x. L-----",
    "api/v1/packets": "L----- L....x",
    "api/v1/parties": "L...x. L-----",
    "api/v1/permissions": "L...x. L-----",
    "api/v1/policies": "L...x. L-----",
    "api/v1/policies/<str:rule>": "L...x. L.xxxx",
    "api/v1/reach": "L..... L-----",
    "api/v1/reach/acts": "L..... L-----",
    "api/v1/reach/descendants": "L..... L-----",
    "api/v1/responses": "L...x. L..xxx",
    "api/v1/responses/<str:ref>": "L???x? L-----",
    "api/v1/sources": "L...x. L-----",
    "api/v1/spend": "L..... L-----",
    "api/v1/stops": "L...x. L..xxx",
    "api/v1/stops/<str:ref>": "L???x? L-----",
    "api/v1/stops/<str:ref>/lift": "L----- L??xxx",
    "api/v1/stops/reach": "L???x? L-----",
    "api/v1/timeline": "L..... L-----",
    "api/v1/timeline/exposure": "L..... L-----",
    "api/v1/tokens": "L...x. L-----",
    "bills/": "L...x. L.x.xx",
    "bills/<str:ref>/": "L???x? L-----",
    "bills/months/<str:month>/": "L...x. L-----",
    "bills/months/close/": "L----- L.x.xx",
    "cases/": "L..... L....x",
    "cases/<str:ref>/outside/": "L....x L....x",
    "cases/<str:ref>/outside/<int:number>/end/": "L----- L????x",
    "cases/<str:ref>/": "L..... L....x",
    "cases/<str:ref>/again/": "L----- L.....",
    "cases/<str:ref>/bank/": "L???xx L???xx",
    "cases/<str:ref>/deadline/": "L----- L.....",
    "cases/<str:ref>/evidence/": "L----- L.....",
    "cases/<str:ref>/evidence/<int:number>/let-in/": "L----- L???..",
    "cases/<str:ref>/evidence/<int:number>/submit/": "L----- L????.",
    "cases/<str:ref>/refuse/": "L----- L.....",
    "cases/outcomes/": "L..... L-----",
    "cases/open/": "L....x L....x",
    "changes/": "L.xxxx L-----",
    "compare/": "L...x. L-----",
    "events/": "L..... L-----",
    "events/<uuid:event_id>/": "L..... L-----",
    "favicon.ico": "...... ......",
    "complain/<str:secret>/": "?????? ??????",
    "complaints/": "L....x L-----",
    "complaints/<int:number>/": "L----- L????x",
    "complaints/doors/": "L----- L....x",
    "explore/": "L...x. L-----",
    "findings/": "L..... L-----",
    "findings/<int:finding_id>/": "L..... L....x",
    "findings/<int:finding_id>/names.csv": "L????? L-----",
    "findings/<int:finding_id>/names/": "L????? L-----",
    "findings/<int:finding_id>/report/": "L----- L?????",
    "formats/": "L..... L-----",
    "grants/<any:grant_id>/": "L...x. L-----",
    "healthz": "...... ......",
    "help/": "L..... L-----",
    "help/<slug:topic>/": "L..... L-----",
    "incidents.csv": "L..... L-----",
    "incidents/": "L..... L-----",
    "incidents/-/many/": "L----- L....x",
    "incidents/<str:ref>/": "L..... L????x",
    "incidents/<str:ref>/verdicts/": "L..... L-----",
    "integrity/": "L...x. L...x.",
    "inventory/": "L..... L-----",
    "join/<str:secret>/": "?????? ??????",
    "log/<str:tenant>/checkpoint": "?????? ------",
    "log/<str:tenant>/tile/<path:address>": "?????? ------",
    "log/<str:tenant>/vkey": "?????? ------",
    "login/": "...... ......",
    "logout/": "------ LLLLLL",
    "metrics": "L...x. L...x.",
    "names/": "L..... L.....",
    "packets/": "L....x L....x",
    "parties/": "L..... L-----",
    "party/<str:secret>/": "?????? ??????",
    "party/<str:secret>/hand-in/": "?????? ??????",
    "party/<str:secret>/leave/": "?????? ??????",
    "people/": "L.xxxx L.xxxx",
    "permissions/": "L...x. L-----",
    "plotly.css": "...... ------",
    "reach/": "L..... L-----",
    "reach/explorer/": "L????? L-----",
    "readyz": "...... ......",
    "receivers/": "L...x. L.xxxx",
    "receivers/<str:name>/": "L----- L???x?",
    "receivers/policies/<str:name>/": "L----- L?xxxx",
    "rules/": "L...x. L-----",
    "rules/<str:name>/": "L...x. L...x.",
    "schema/event.json": "...... ------",
    "schema/vectors.json": "...... ------",
    "search/": "L..... L-----",
    "secrets/": "L.xxxx L.xxxx",
    "security-log/": "L.xxx. L-----",
    "sessions/": "L..... L-----",
    "sources/": "L.xxxx L.xxxx",
    "sources/<str:name>/": "L.xxxx L?xxxx",
    "spend/": "L..... L-----",
    "ssf/poll": "LLLLLL LLLLLL",
    "ssf/status": "LLLLLL LLLLLL",
    "ssf/streams": "LLLLLL LLLLLL",
    "ssf/verify": "LLLLLL LLLLLL",
    "stops/": "L...x. L-----",
    "stops/<str:ref>/": "L???x? L???x?",
    "stops/new/": "L??xxx L??xxx",
    "timeline/": "L..... L-----",
    "workz": "...... ......",
}


def routes():
    """Every address as it is written, in order."""

    def walk(patterns, before):
        for one in patterns:
            route = before + str(one.pattern)
            if hasattr(one, "url_patterns"):
                yield from walk(one.url_patterns, route)
            else:
                yield route

    return [r for r in walk(get_resolver().url_patterns, "") if not r.startswith(OTHERS) or r == "account/"]


@pytest.fixture
def filled(town):  # noqa: F811
    """What the parts of an address stand for, by its name; else a name that nothing has."""
    case = open_case(
        Viewer(town.row, "security", "desk"),
        kind="scope",
        title="x",
        complaint="",
        finding=town.wrong,
        now=timezone.now(),
    )
    town.parts = {
        "event_id": str(town.bought.event_id), "finding_id": str(town.wrong.pk), "grant_id": town.bought.via_grant,
        "name": "conductor", "ref": "INC-000001", "topic": "security", "month": "2026-10", "number": "1", "pk": "1",
    }  # fmt: skip
    town.case = case.ref
    return town


def address(route, world):
    parts = (
        world.parts
        | ({"ref": world.case} if "cases/" in route else {})
        | ({"name": "spend.retry_loop"} if route.startswith("rules/") else {})
    )
    return "/" + re.sub(r"<(?:\w+:)?(\w+)>", lambda found: parts.get(found[1], "nothing"), route)


def letter(answer):
    if answer.status_code == 401 or (answer.status_code == 302 and answer["Location"].startswith("/login/")):
        return "L"
    assert answer.status_code < 500 or answer.request["PATH_INFO"] in PROBES, answer.content[:300]
    return {403: "x", 404: "?", 405: "-"}.get(answer.status_code, ".")


def asked(world, path, method, user, api):
    """What becomes of one request; with a session of its own, for some end it."""
    client, more = Client(), {}
    if user and path.startswith("/api/v1/"):
        more["headers"] = api.headers
    elif user:
        client.force_login(user)
    if method == "post" and path.startswith("/api/"):
        more |= {"data": "{}", "content_type": "application/json"}
    return letter(getattr(client, method)(path, **more))


def test_every_address_answers_each_role_as_its_row_says(filled):
    people = [("", "")]
    for role in ROLES:
        provider = filled.bought.provider if role == "abuse" else ""
        signed_in(filled, role, provider)
        user = filled.row.membership_set.get(role=role).user
        people.append((user, Api(filled.row, role, provider)))
    found = {}
    for route in routes():
        path = address(route, filled)
        letters = []
        for method in ("get", "post"):
            letters.append("".join(asked(filled, path, method, *who) for who in people[:2]))
            # A method that an admin does not have, nobody has: that is not asked five times.
            more = people[2:] if letters[-1][-1] != "-" else ()
            letters[-1] += "".join(asked(filled, path, method, *who) for who in more) or "----"
        found[route] = " ".join(letters)

    missing = {route: row for route, row in found.items() if route not in TABLE}
    assert not missing, "an address without a row: " + "".join(
        f'\n    "{route}": "{row}",' for route, row in missing.items()
    )
    assert found == TABLE


BODY = {
    "state": "acknowledged", "reason": "because", "text": "x", "owner": "", "outcome": "other", "other": "INC-000002", "findings": [1],
    "days": 1, "to": "assessed", "kind": "note", "title": "x", "do": "set", "mode": "live", "name": "x", "note": "x", "number": 1,
    "eligible": True, "amount_minor": 1, "currency": "USD", "liability": "principal", "at": "2027-01-01T00:00:00Z", "due_at": "2027-01-01",
    "rule": "spend.retry_loop", "policy": {}, "month": "2026-09", "stop": {"grant": "x"}, "dry_run": False, "press": "1", "confirm": "1",
}  # fmt: skip
# What is written of whoever reads: the security log and its leaves, counters of tries, when a token was used, and what was computed.
OF_READING = {
    "ApiToken",
    "Attempt",
    "Leaf",
    "LedgerEntry",
    "LogHead",
    "Payload",
    "ProjectionState",
    "Reading",
    "SecurityLog",
    "Tenant",
}


def test_nothing_that_an_auditor_sends_anywhere_changes_a_row(filled):
    from django.apps import apps

    tables = [model for app in ("auditlog", "disputes") for model in apps.get_app_config(app).get_models()]

    def kept():
        return {model.__name__: list(model.objects.order_by("pk").values_list()) for model in tables}

    client, api = signed_in(filled, "auditor"), Api(filled.row, "auditor")
    before = kept()
    for route in routes():
        path = address(route, filled)
        if path in ("/logout/", "/account/", "/login/"):
            continue
        if path.startswith("/api/"):
            api.post(path.removeprefix("/api/v1/"), BODY)
        else:
            for do in ("set", "try", "note", "close", "remove", "on", "add"):
                client.post(path, BODY | {"do": do, "policy": "{}", "stop": "x"})
    after = kept()

    changed = {name for name in before if before[name] != after[name]} - OF_READING
    assert not changed, sorted(changed)
