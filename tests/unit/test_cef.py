"""CEF: a reader that follows the standard reads back exactly what was put in, and no name of a sender's adds a field or
a line.
"""

import re
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from auditlog.core.siem.cef import case_line, cef_line, event_line, finding_line
from auditlog.core.text import visible
from tests.unit.test_ocsf_out import ADA, BOT, act, bare, chain, incident, kept

hostile = st.text(st.characters(codec="utf-8"), max_size=80) | st.text("|\\=\n\r ab:\u202e\u2028\x85\x00", max_size=40)
NASTY = "x|9|y cs1=evil\\ cs2=a\\=b\nCEF:0|Evil|Evil|1|1|1|10|act=x\r\n\u202egnp.exe"


def parsed(line: bytes) -> tuple[list[str], dict[str, str]]:
    """By the standard: seven header fields split at bars that are not escaped, then key=value, where no bare `=` is in
    a value.
    """
    text = line.decode()
    assert text.endswith("\n") and len(text.splitlines()) == 1
    parts, rest = [], text[:-1]
    for _ in range(7):
        end = re.match(r"(?:\\.|[^\\|])*", rest, re.S).end()
        assert rest[end] == "|"
        parts.append(rest[:end].replace("\\|", "|").replace("\\\\", "\\"))
        rest = rest[end + 1 :]
    starts = list(re.finditer(r"(?:^| )([A-Za-z0-9]+)=", _blanked(rest)))
    said = {}
    for n, start in enumerate(starts):
        end = starts[n + 1].start() if n + 1 < len(starts) else len(rest)
        assert start[1] not in said
        said[start[1]] = re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r"}.get(m[1], m[1]), rest[start.end() : end])
    return parts, said


def _blanked(text: str) -> str:
    """The same with every escaped pair out of the way, so that positions stay."""
    return re.sub(r"\\.", "__", text)


def as_shown(text: str) -> str:
    return "\n".join("\r".join(visible(part) for part in row.split("\r")) for row in text.split("\n"))


@settings(max_examples=500, deadline=None)
@example(NASTY, NASTY, {"act": NASTY, "suser": "= a=b", "cs1": "\\"})
@given(
    hostile,
    hostile,
    st.dictionaries(st.sampled_from(["act", "suser", "msg", "cs1", "cs1Label", "src"]), hostile.filter(bool)),
)
def test_what_goes_in_is_what_a_reader_finds(signature, name, extension):
    header, said = parsed(cef_line(signature, name, 5, extension))

    assert header == ["CEF:0", "Answerable", "Answerable", "0.1.0", visible(signature), visible(name), "5"]
    assert said == {key: as_shown(value) for key, value in extension.items()}


@settings(max_examples=200, deadline=None)
@example(NASTY)
@given(hostile.filter(bool))
def test_no_hostile_name_adds_a_field_or_a_line_to_an_event(name):
    plain, odd = (
        act(),
        act(resource=name, stated_verb=name, provider=name, txn=name, actor=f"https://x|{name}", account=name),
    )

    _, expected = parsed(event_line(plain, chain(plain), tenant="acme"))
    header, said = parsed(event_line(odd, chain(odd), tenant="acme"))

    assert said.keys() == expected.keys() and header[6] == "1"
    assert (said["cs1"], said["cs3"], said["cs6"], said["act"]) == (
        as_shown(f"https://x|{name}"),
        *[as_shown(name)] * 3,
    )


@settings(max_examples=200, deadline=None)
@example(NASTY)
@given(hostile.filter(bool))
def test_no_hostile_title_adds_a_field_or_a_line_to_a_finding(title):
    header, said = parsed(finding_line(kept(title=title), tenant="acme"))

    assert header[4:] == ["spend.retry_loop", visible(title), "8"]
    assert said["msg"] == as_shown(title) and said.keys() == parsed(finding_line(kept(), tenant="acme"))[1].keys()


def test_an_event_says_who_what_where_and_how_it_is_known():
    one = act()
    _, said = parsed(event_line(one, chain(one), tenant="acme", original_uid="src-1"))

    assert (said["suser"], said["suid"], said["cs1"], said["cs1Label"]) == ("ada", ADA.key, BOT.key, "agent")
    assert (said["act"], said["outcome"], said["src"], said["externalId"]) == (
        "dns.create",
        "success",
        "192.0.2.7",
        one.event_id,
    )
    assert (said["cs4"], said["cs5"], said["cn1"], said["cn2"], said["flexString1"]) == (
        "ada (claimed) > bot-7 (claimed)",
        "A",
        "41",
        "1100",
        "EUR",
    )
    assert (said["rt"], said["start"]) == ("1795176001123", "1795176000123")


def test_what_nobody_said_is_left_out():
    header, said = parsed(event_line(bare(), chain(bare()), tenant="acme"))

    assert header[5] == "somebody unknown: action.performed"
    assert not {"suser", "suid", "src", "cs1", "cs3", "cn2", "act"} & said.keys() and said["outcome"] == "unknown"


@pytest.mark.parametrize(
    ("ip", "expected"), [("2001:db8::1", "c6a2"), ("192.0.2.7", "src"), ("192.0.2.7 src=10.0.0.1", None), ("", None)]
)
def test_an_address_goes_where_its_kind_belongs(ip, expected):
    from auditlog.core.event import Client

    one = act()
    one = replace(one, payload=type(one.payload)(outcome="success", client=Client(ip)))
    _, said = parsed(event_line(one, chain(one), tenant="acme"))

    assert {"src", "c6a2"} & said.keys() == ({expected} if expected else set())


def test_a_withdrawn_finding_keeps_its_id():
    _, said = parsed(finding_line(kept(state="withdrawn", change=9), tenant="acme"))

    assert (said["externalId"], said["outcome"], said["cn1"]) == ("finding-12", "withdrawn", "9")


def test_a_long_value_is_cut():
    [value] = parsed(cef_line("s", "n", 1, {"msg": "=" * 5_000}))[1].values()

    assert value == "=" * 999 + "…"


@settings(max_examples=200, deadline=None)
@example(NASTY)
@given(hostile.filter(bool))
def test_no_claimant_adds_a_field_or_a_line_to_a_case(text):
    plain, odd = incident(), incident(title=text, complaint=text, reason=text, by=text)
    _, expected = parsed(case_line(plain, tenant="acme"))
    header, said = parsed(case_line(odd, tenant="acme"))

    assert said.keys() == expected.keys() and header[4:] == [
        "case.evidence_open",
        f"D-2026-000001: {visible(text)}",
        "8",
    ]
    assert (said["externalId"], said["cn1"], said["cn1Label"], said["msg"]) == (
        "D-2026-000001",
        "3",
        "step",
        as_shown(text),
    )
