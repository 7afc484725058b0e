"""No sender can break a page: whatever a valid event holds, at its extremes, every page and export opens, and sums are exact."""

import json
import random
from datetime import timedelta
from io import BytesIO
from urllib.parse import quote, urlencode

import msgspec
import pytest
from django.test import Client
from django.utils import timezone
from msgspec import inspect as kinds

from auditlog.core.errors import Refused
from auditlog.core.event import LAYER_OF_TYPE, Payload, decode_payload
from auditlog.custody.bundle import export_log
from auditlog.export.siem import read_page
from auditlog.ledger.publish import announce_key, publish, take_fence
from auditlog.models import Event, Finding, UnparsedLeaf
from auditlog.reads.access import issue_token
from tests.integration.test_dashboard_pages import signed_in
from tests.oracle import KEY

MOST = 2**63 - 1
ISS = "https://conductor.example"
# One of each width in UTF-8, what writes backwards, what joins, what markup is made of.
LETTERS = "aé漢𝔘😀\u202e\u2067\u0301\u200d<>&\"'%{}\\/|,;=+-@\t\n"
PAGES = ("/", "/findings/", "/findings/?state=", "/events/", "/sessions/", "/spend/", "/parties/", "/inventory/", "/cases/", "/integrity/", "/sources/",
         "/formats/", "/reach/", "/permissions/", "/compare/", "/timeline/", "/search/?q=a", "/changes/")  # fmt: skip
READS = ("events", "parties", "grants", "tokens", "limits", "spend", "spend?by=agent,provider", "sources", "findings", "inventory", "cases",
         "export/ocsf?what=events", "export/ocsf?what=findings")  # fmt: skip


def extreme(kind, dice, depth=0):
    """A valid value of this type at one of its ends."""
    match kind:
        case kinds.UnionType():
            return extreme(dice.choice([one for one in kind.types if not isinstance(one, kinds.NoneType)]), dice, depth)
        case kinds.IntType():
            return dice.choice(
                [kind.ge if kind.ge is not None else -(2**63), kind.le if kind.le is not None else 2**63 - 1, 0, 1]
            )
        case kinds.FloatType():
            return dice.choice([kind.ge or 0, kind.le or 0, 0.000001, 1_790_000_000.5])
        case kinds.BoolType():
            return dice.choice([True, False])
        case kinds.LiteralType():
            return dice.choice(kind.values)
        case kinds.StrType():
            if kind.pattern and "A-Za-z" in kind.pattern:
                return dice.choice(["USD", "JPY", "KWD", "zzz", "CLF"])
            if kind.pattern and "0-9" in kind.pattern:
                return dice.choice(["0", "9" * 15, "0." + "0" * 11 + "1", "9" * 15 + "." + "9" * 12, "0.005"])
            size = dice.choice([kind.min_length or 0, 1, kind.max_length or 4000])
            letters = LETTERS.replace("|", "") if kind.pattern else LETTERS
            many = dice.random() < 0.5
            return "".join(
                dice.choice(letters) if many else chr(dice.randrange(0x1F300, 0x1FAFF))
                for _ in range(max(size, kind.min_length or 0))
            )
        case kinds.ListType():
            size = dice.choice([0, 1, min(kind.max_length or 5, 12)])
            return [extreme(kind.item_type, dice, depth + 1) for _ in range(size)]
        case kinds.DictType():
            return {"a" * 50: [1, {"b": "x"}], "n": 10**18, "": None}
        case kinds.StructType():
            return {
                each.encode_name: extreme(each.type, dice, depth + 1)
                for each in kind.fields
                if each.required or (depth < 6 and dice.random() < 0.7)
            }
        case _:
            return {}


PAYLOAD = kinds.type_info(Payload)


def payloads(seed, count):
    dice = random.Random(seed)
    while count:
        payload = extreme(PAYLOAD, dice)
        money = payload.get("money", {})
        if "amount_minor" in money and "amount" in money:
            del money[dice.choice(["amount_minor", "amount"])]
        if ("amount_minor" in money or "amount" in money) and not money.get("currency"):
            money["currency"] = "USD"
        try:
            decode_payload(msgspec.json.encode(payload))
        except Refused:
            continue
        count -= 1
        yield dice.choice(list(LAYER_OF_TYPE)), payload


def pages_of_names(world):
    """The pages that names in events lead to."""
    rows = Event.objects.filter(tenant=world.row).values(
        "via_grant", "grant", "actor", "principal", "session", "task", "txn"
    )[:25]
    for row in rows:
        for grant in {row["via_grant"], row["grant"]} - {""}:
            yield f"/grants/{quote(grant)}/"
            yield f"/reach/?{urlencode({'grant': grant})}"
            yield f"/reach/explorer/?{urlencode({'grant': grant})}"
        for party in {row["actor"], row["principal"]} - {""}:
            yield f"/parties/?{urlencode({'key': party})}"
            yield f"/permissions/?{urlencode({'agent': party})}"
        for name in ("session", "task", "txn"):
            if row[name]:
                yield f"/timeline/?{urlencode({name: row[name]})}"


def open_everything(world):
    """Every page and read, as those who see all and as a provider's desk."""
    wrong = []
    for role, provider in (("admin", ""), ("abuse", "hosted")):
        client = signed_in(world, role, provider)
        token = issue_token(
            world.row, name="t", role=role, provider=provider, expires_at=timezone.now() + timedelta(hours=1)
        )
        events = (
            list(Event.objects.filter(tenant=world.row).values_list("event_id", flat=True)) if role == "admin" else []
        )
        findings = (
            list(Finding.objects.filter(tenant=world.row).values_list("id", flat=True)[:40]) if role == "admin" else []
        )
        paths = [
            *PAGES,
            *(f"/events/{one}/" for one in events),
            *(f"/findings/{one}/" for one in findings),
            *pages_of_names(world),
        ]
        reads = [*READS, *(f"events/{one}{more}" for one in events[:25] for more in ("", "/chain", "/story", "/raw"))]
        for path in paths:
            status = client.get(path).status_code
            if status not in (200, 302, 403, 404):
                wrong.append((role, path, status))
        for path in reads:
            status = Client().get(f"/api/v1/{path}", headers={"authorization": f"Bearer {token}"}).status_code
            if status not in (200, 302, 403, 404):
                wrong.append((role, path, status))
    for what in ("events", "findings"):
        for format in ("ocsf", "cef"):
            read_page(world.row, what, format=format, after=0, size=500)
    announce_key(world.row, key=KEY, now=world.now)
    publish(world.row, key=KEY, fence=take_fence(world.row), now=world.now)
    export_log(world.row, BytesIO())
    return wrong


@pytest.mark.parametrize("seed", [0, *(pytest.param(more, marks=pytest.mark.slow) for more in range(1, 6))])
def test_valid_events_at_their_extremes_break_no_page(world, seed):
    world.source("conductor", ISS)
    world.configure("conductor")
    sent = 0
    for event_type, payload in payloads(seed, 60):
        signed = world.event(event_type, **payload)
        try:
            world.send(signed)
            sent += 1
        except Refused as refused:  # a card number, or a secret, that letters happened to make
            assert refused.err == "invalid_request", refused
    world.settle()

    assert (
        sent > 40
        and Event.objects.filter(tenant=world.row).count() + UnparsedLeaf.objects.filter(tenant=world.row).count()
        == sent
    )
    assert [leaf.reason for leaf in UnparsedLeaf.objects.filter(tenant=world.row)] == []
    assert open_everything(world) == []


def test_two_captures_of_the_largest_amount_are_added_exactly(world):
    world.source("conductor", ISS)
    for charge in ("c1", "c2"):
        world.send(world.event("payment.captured", outcome="success", actor={"iss": ISS, "sub": "agent", "kind": "agent"},
                               action={"provider": "hosted"}, money={"amount_minor": MOST, "currency": "USD", "charge": charge}))  # fmt: skip
    world.settle()

    assert open_everything(world) == []
    token = issue_token(world.row, name="t", role="finance", expires_at=timezone.now() + timedelta(hours=1))
    answer = Client().get("/api/v1/spend", headers={"authorization": f"Bearer {token}"})
    [row] = json.loads(answer.content)["results"]
    assert row["spent_minor"] == 2 * MOST


def test_limits_of_nothing_and_amounts_without_end_are_found_and_counted_exactly(world):
    world.source("conductor", ISS)
    ada, agent = world.human("ada", issuer=ISS), world.agent("shopper", issuer=ISS)
    granted = world.grant(
        ada, agent, limits=[{"max_minor": 0, "currency": "USD", "scope": "global", "interval": "month"}]
    )
    world.send(granted)
    for n in range(5):
        world.send(world.event("payment.captured", outcome="success", actor={"iss": ISS, "sub": "shopper", "kind": "agent"}, grant=granted,
                               action={"provider": "hosted"}, money={"amount_minor": MOST, "currency": "USD", "charge": f"c{n}"},
                               call={"operation": "pay", "idempotency_key": "k", "attempt": n}))  # fmt: skip
    world.settle()

    risks = Finding.objects.filter(tenant=world.row, money_at_risk_minor__isnull=False).values_list(
        "money_at_risk_minor", flat=True
    )
    assert max(risks, default=0) > MOST
    assert open_everything(world) == []
