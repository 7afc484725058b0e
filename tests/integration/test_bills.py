"""Bills against the record: each line once, matched with its reason, and what differs told and never held against anybody."""

import csv
import io
import json
import os
import pathlib
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from auditlog.bills.import_bill import import_bill
from auditlog.bills.statement import body_of, close_month
from auditlog.core.bills.line import BadBill
from auditlog.models import Bill, BillLine, BillMapping, BillShare, Finding, Unbilled
from auditlog.reads.access import issue_token
from tests.integration.test_dashboard_pages import signed_in
from tests.integration.test_detect import desk, found  # noqa: F401 - a fixture

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def calls(world, count, *, minor=700, first=0, **event):
    return [
        world.metered("tensor.embed", {"text": f"t{n}"}, amount_minor=minor + n, at=world.at + n * HOUR, charge=f"mtr-{n}", provider="meter",
                      grant=world.root, **event)
        for n in range(first, first + count)
    ]  # fmt: skip


def focus(world, rows):
    """`rows`: (amount in major units, hours after the first, more columns)."""
    out = io.StringIO()
    names = ["BilledCost", "BillingCurrency", "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ProviderName", "x_ChargeId", "SkuId",
             "ChargeDescription", "InvoiceId", "ResourceId"]  # fmt: skip
    writer = csv.DictWriter(out, names, restval="")
    writer.writeheader()
    for cost, hour, more in rows:
        at = world.at.replace(minute=0, second=0, microsecond=0) + hour * HOUR
        told = {"BilledCost": cost, "BillingCurrency": "USD", "ChargePeriodStart": at.isoformat(), "ChargePeriodEnd": (at + HOUR).isoformat(),
                "ChargeCategory": "Usage", "ProviderName": "Meter"}  # fmt: skip
        writer.writerow(told | more)
    return out.getvalue().encode()


def imported(world, raw, **more):
    return import_bill(world.row, raw, **({"file_name": "bill.csv", "format": "focus", "now": world.now} | more))


def states(world):
    return list(BillLine.objects.filter(tenant=world.row).order_by("position").values_list("state", flat=True))


def test_a_clean_bill_matches_by_name_and_by_time_and_raises_nothing(desk):  # noqa: F811
    desk.send(*calls(desk, 40))
    assert found(desk) == []
    rows = [
        (f"{(700 + n) / 100:.2f}", n, {"x_ChargeId": f"mtr-{n}"} if n % 2 else {"SkuId": "tensor.embed"})
        for n in range(40)
    ]
    tax = ("58.00", 39, {"ChargeCategory": "Tax", "ChargeDescription": "VAT"})

    [outcome] = imported(desk, focus(desk, [*rows, tax])).outcomes

    assert outcome.lines == {"matched": 40, "apart": 1} and outcome.missing == 0
    assert found(desk) == [] and BillShare.objects.filter(tenant=desk.row).count() == 40


def test_what_no_act_explains_and_what_no_line_shows_are_told_apart(desk):  # noqa: F811
    desk.send(*calls(desk, 20))
    desk.settle()
    rows = [(f"{(700 + n) / 100:.2f}", n, {"x_ChargeId": f"mtr-{n}"}) for n in range(20) if n != 7]

    [outcome] = imported(desk, focus(desk, [*rows, ("93.10", 5, {})])).outcomes

    assert outcome.lines == {"matched": 19, "unexplained": 1} and outcome.missing == 1
    assert outcome.totals["USD"]["unexplained"] == 9310 and Unbilled.objects.get(tenant=desk.row).amount == 707
    [finding] = Finding.objects.filter(tenant=desk.row, rule="spend.bill_differs")
    assert "93.10 USD in 1 lines that no charge on record explains" in finding.title and finding.events_total == 1


def test_another_price_is_told_by_how_much(desk):  # noqa: F811
    desk.send(*calls(desk, 3))
    desk.settle()
    rows = [
        ("7.00", 0, {"x_ChargeId": "mtr-0"}),
        ("8.51", 1, {"x_ChargeId": "mtr-1"}),
        ("7.02", 2, {"x_ChargeId": "mtr-2"}),
    ]

    imported(desk, focus(desk, rows))

    line = BillLine.objects.get(tenant=desk.row, state="differs")
    assert line.difference == 150 and line.reason == "named by both; the price differs"
    assert line.shares.get().amount == 851  # billed to you, done by: what was billed


def test_one_line_for_several_agents_is_shared_among_them_and_two_lines_of_one_charge_are_one(desk):  # noqa: F811
    child = desk.grant(desk.lead, desk.helper, parent=desk.root, at=desk.at - MINUTE)
    at = desk.at.replace(minute=0)
    mine = [desk.metered("tensor.embed", {"text": f"t{n}"}, amount_minor=100, at=at + n * MINUTE, provider="meter", grant=(desk.root, child)[n % 2])
            for n in range(1, 7)]  # fmt: skip
    desk.send(child, *mine, *calls(desk, 1, first=30))
    desk.settle()

    imported(desk, focus(desk, [("6.00", 0, {"SkuId": "tensor.embed"}), ("3.00", 30, {}), ("4.30", 30, {})]))

    assert states(desk) == ["matched", "matched", "matched"]
    shares = BillShare.objects.filter(tenant=desk.row, line__position=1).values_list("agent", "amount")
    assert {agent for agent, _ in shares} == {f"{one.iss}|{one.sub}" for one in (desk.lead, desk.helper)} and sum(
        a for _, a in shares
    ) == 600


def test_a_line_is_imported_once_whatever_file_it_comes_in(desk):  # noqa: F811
    desk.send(*calls(desk, 4))
    desk.settle()
    rows = [(f"{(700 + n) / 100:.2f}", n, {"x_ChargeId": f"mtr-{n}"}) for n in range(4)]

    first, again = imported(desk, focus(desk, rows[:3])), imported(desk, focus(desk, rows[:3]))
    longer = imported(desk, focus(desk, rows))
    twice = imported(desk, focus(desk, [*rows, rows[0]]))

    assert [each.bill.new_lines for each in (first, again, longer, twice)] == [3, 0, 1, 1]
    assert BillLine.objects.filter(tenant=desk.row).count() == 5 and Bill.objects.filter(tenant=desk.row).count() == 4


def test_a_bill_that_comes_before_its_events_is_explained_when_it_is_matched_again(desk):  # noqa: F811
    raw = focus(desk, [("7.00", 0, {"x_ChargeId": "mtr-0"}), ("7.01", 1, {"x_ChargeId": "mtr-1"})])
    assert imported(desk, raw).outcomes[0].lines == {"unexplained": 2}

    desk.send(*calls(desk, 2))
    desk.settle()

    assert imported(desk, raw).outcomes[0].lines == {"matched": 2}
    assert not Finding.objects.filter(tenant=desk.row, rule="spend.bill_differs").exclude(state="withdrawn").exists()


def test_a_refund_on_the_bill_is_the_refund_on_record_and_lines_that_cost_nothing_are_no_charges(desk):  # noqa: F811
    desk.send(
        desk.payment("captured", 900, charge="ch_9", at=desk.at, grant=desk.root, provider="meter"),
        desk.payment("refunded", 400, charge="ch_9", at=desk.at + HOUR, provider="meter"),
    )
    desk.settle()
    rows = [("9.00", 0, {"x_ChargeId": "ch_9"}), ("-4.00", 1, {"x_ChargeId": "ch_9"}), ("0.00", 2, {})]

    [outcome] = imported(desk, focus(desk, rows)).outcomes

    assert outcome.lines == {"matched": 2, "apart": 1} and outcome.missing == 0


@pytest.mark.parametrize(
    ("raw", "format", "said"),
    [
        (b"", "focus", "the file is empty"),
        (b"a,b\n1,2\n", "focus", "it has no column BilledCost"),
        (b"a,b\n1,2,3\n", "csv", "which column is amount and at"),
        (b"date,cost,currency\n2026-01-01,abc,USD\n", "csv", "line 2, amount: 'abc' is not an amount"),
        (b"date,cost,currency\n2026-13-01,1,USD\n", "csv", "line 2, at: '2026-13-01' is not a time"),
        (b"date,cost,currency\n2026-01-01,1\n", "csv", "line 2: 2 values, and 3 columns"),
        (b"date,cost,currency\n2026-01-01,1,dollar\n", "csv", "'dollar' is not a currency"),
        (b'{"data": 3}', "stripe_balance", "`data` is no array"),
        (b'[{"amount": 3}]', "stripe_balance", "no `id` of a balance transaction"),
        (b'[{"spend": 3}]', "litellm", "a spend log has `request_id` and `spend`"),
        (b"date,cost,currency\n2026-01-01,1e99,USD\n", "csv", "is not an amount that is billed"),
        (b"\xff\xfe", "csv", "is no UTF-8"),
    ],
)
def test_a_file_that_is_no_bill_is_refused_with_what_is_wrong_and_nothing_is_written(desk, raw, format, said):  # noqa: F811
    with pytest.raises(BadBill, match=said):
        imported(desk, raw, format=format)

    assert (
        not Bill.objects.filter(tenant=desk.row).exists() and not BillMapping.objects.filter(tenant=desk.row).exists()
    )


def test_a_csv_by_a_mapping_that_is_kept_stripe_and_litellm_are_read(desk, tmp_path, capsys):  # noqa: F811
    at = desk.at.replace(microsecond=0)
    desk.send(
        desk.payment("captured", 1250, charge="ch_1", at=at, grant=desk.root, provider="shop"),
        desk.metered(
            "gpt", {"q": "a"}, amount_minor=3, request_id="chatcmpl-1", at=at, provider="openai", grant=desk.root
        ),
        *calls(desk, 1),
    )
    desk.settle()
    stripe = [{"id": "txn_1", "object": "balance_transaction", "amount": 1250, "fee": 66, "net": 1184, "currency": "usd", "type": "charge",
               "source": "ch_1", "created": int(at.timestamp())},
              {"id": "txn_2", "amount": -500, "fee": 0, "currency": "usd", "type": "payout", "source": "po_1", "created": int(at.timestamp())}]  # fmt: skip
    litellm = [
        {
            "request_id": "chatcmpl-1",
            "spend": 0.03,
            "startTime": at.isoformat(),
            "model": "gpt",
            "custom_llm_provider": "openai",
        }
    ]
    mapped = f"Wann,Was,Betrag\n{at.isoformat()},mtr-0,7.00\n".encode()

    told = [imported(desk, json.dumps(stripe).encode(), format="stripe_balance"), imported(desk, json.dumps(litellm).encode(), format="litellm"),
            imported(desk, mapped, format="csv", provider="meter", mapping={"at": "Wann", "ref": "Was", "amount": "Betrag", "currency": "=USD"})]  # fmt: skip

    assert [each.outcomes[0].lines for each in told] == [{"matched": 1, "apart": 2}, {"matched": 1}, {"matched": 1}]
    (tmp_path / "next.csv").write_bytes(mapped.replace(b"7.00", b"9.99"))
    call_command(
        "import_bill", str(tmp_path / "next.csv"), format="csv", provider="meter", tenant=desk.row.name, json=True
    )
    assert json.loads(capsys.readouterr().out)["lines"] == 1
    with pytest.raises(CommandError, match="cannot read"):
        call_command("import_bill", str(tmp_path / "none.csv"), format="csv", tenant=desk.row.name)
    assert BillLine.objects.filter(tenant=desk.row, reason__contains="named by both").count() == 4 and Decimal(
        "9.99"
    ) * 100 in BillLine.objects.filter(tenant=desk.row).values_list("amount", flat=True)


# --- pages, API and months --------------------------------------------------------------------------------------------


def test_a_bill_is_handed_in_on_its_page_and_read_there_and_by_the_api(desk):  # noqa: F811
    desk.send(*calls(desk, 3))
    desk.settle()
    raw = focus(desk, [("7.00", 0, {"x_ChargeId": "mtr-0"}), ("99.00", 1, {"ChargeDescription": "=cmd|x"})])
    client = signed_in(desk, "finance")

    answer = client.post("/bills/", {"file": SimpleUploadedFile("oct.csv", raw), "format": "focus", "provider": ""})

    assert answer.status_code == 302
    page = client.get(answer["Location"]).content.decode()
    assert "unexplained" in page and "99.00" in page and "named by both" in page
    table = client.get(f"{answer['Location']}?state=unexplained&csv=1").content.decode()
    assert "'=cmd|x" in table and "mtr-0" not in table
    told = client.get("/bills/").content.decode()
    assert "oct.csv" in told
    token = issue_token(desk.row, name="t", role="auditor", expires_at=timezone.now() + DAY)
    api = Client(headers={"Authorization": f"Bearer {token}"})
    [one] = api.get("/api/v1/bills").json()["results"]
    assert one["lines"] == 2 and {row["state"] for row in one["totals"]} == {"matched", "unexplained", "missing"}
    lines = api.get(f"/api/v1/bills/{one['id']}/lines?state=missing").json()["results"]
    assert [row["amount_minor"] for row in lines] == [701]
    assert api.get(f"/api/v1/bills/{one['id']}/lines?state=wrong").status_code == 400
    bad = client.post("/bills/", {"file": SimpleUploadedFile("x.csv", b"a,b\n"), "format": "focus"})
    assert bad.status_code == 400 and "no column" in bad.content.decode()


@pytest.mark.parametrize(
    ("role", "may_read", "may_import"), [("auditor", True, False), ("security", True, False), ("abuse", False, False)]
)
def test_who_may_read_bills_and_who_may_hand_one_in(desk, role, may_read, may_import):  # noqa: F811
    client = signed_in(desk, role, "meter" if role == "abuse" else "")
    raw = focus(desk, [("7.00", 0, {})])

    assert (client.get("/bills/").status_code == 200) == may_read
    assert client.post("/bills/", {"file": SimpleUploadedFile("x.csv", raw), "format": "focus"}).status_code == 403
    assert client.post("/bills/months/close/", {"month": "2020-01"}).status_code == 403
    assert not Bill.objects.filter(tenant=desk.row).exists()


def test_a_closed_month_is_signed_and_what_comes_later_is_an_adjustment(desk):  # noqa: F811
    first = (desk.at.replace(day=1) - timedelta(days=40)).replace(day=3)
    later = (first.replace(day=28) + timedelta(days=6)).replace(day=3)
    desk.send(desk.payment("captured", 900, at=first, grant=desk.root, provider="shop"))
    desk.settle()

    closed = close_month(desk.row, first.date(), now=desk.now)
    desk.send(desk.payment("captured", 50, at=first, grant=desk.root, provider="shop"))
    desk.settle()

    assert closed.body["totals"]["USD"]["proven"] == 900 and closed.signed.count(".") == 2
    with pytest.raises(BadBill, match="is closed"):
        close_month(desk.row, first.date(), now=desk.now)
    with pytest.raises(BadBill, match="is not over"):
        close_month(desk.row, desk.now.date(), now=desk.now)
    [adjusted] = body_of(desk.row, later.date().replace(day=1))["adjustments"]
    assert (adjusted["month"], adjusted["amount_minor"]) == (f"{first:%Y-%m}", 50)
    client = signed_in(desk, "finance")
    page = client.get(f"/bills/months/{first:%Y-%m}/").content.decode()
    assert "Closed" in page and "9.00" in page
    journal = list(csv.DictReader(io.StringIO(client.get(f"/bills/months/{first:%Y-%m}/?as=journal").content.decode())))
    assert sum(Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0) for row in journal) == 0 and len(journal) == 2
    told = client.get(f"/bills/months/{first:%Y-%m}/?as=focus").content
    again = import_bill(desk.row, told, file_name="own.csv", format="focus", provider="shop", now=desk.now)
    assert again.outcomes[0].lines == {"matched": 2}  # our own export is a bill that our record explains
    if where := os.environ.get("FOCUS_OUT"):
        pathlib.Path(where).write_bytes(told)
