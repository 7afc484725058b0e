"""Lenient in what we do not rely on, strict in what we do: every optional field of every format's samples, mutated.

Three facts, for each member of each sample: what we do not use may hold anything; what is optional may be null; what is
optional and of another JSON type counts as absent.
"""

import copy
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.errors import MalformedEvent, Refused
from auditlog.formats import NAMES, Statement, named
from tests.deliveries import SAMPLES

OF_OTHER_TYPES = (None, True, -1, 1.5, [], {}, [[]], {"a": {}}, ["x"], 10**30, "", "x", "half a \ud83d")
# The published format is ours and holds its fields to their types; null is absent there too.
NATIVE = {"set", "standard_webhooks", "cloudevents", "http_signatures"}
# Signed artifacts whose own specifications publish what is to be refused: AP2's schemas, PEAC's invalid vectors.
CONFORMING = {"ap2", "peac"}
# What we do rely on: when, how much, and the grammar of a protocol's own objects. Of these only null counts as absent.
RELIED_ON = {"at", "time", "date", "created", "eventTime", "ActionTimestamp", "timestamp", "event_timestamp", "toe", "@timestamp", "created_at",
             "published", "startTime", "endTime", "timeUnixNano", "observedTimeUnixNano", "startTimeUnixNano", "spend", "response_cost",
             "amount", "amount_captured", "total", "accepts", "challenge", "receipt", "credential"}  # fmt: skip
QUICK = settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00"), max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def members(value: Any, path: tuple = ()) -> list[tuple]:
    """Paths to every member of the document's objects."""
    found = []
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for place, inner in places:
        found += [(*path, place)] if isinstance(value, dict) else []
        found += members(inner, (*path, place))
    return found


def changed(document: Any, path: tuple, value: Any = ...) -> Any:
    """The document with another value there, or without it."""
    made = copy.deepcopy(document)
    holder = made
    for place in path[:-1]:
        holder = holder[place]
    if value is ...:
        del holder[path[-1]]
    else:
        holder[path[-1]] = value
    return made


def taken(format: str, document: Any) -> Statement | Refused:
    sample = SAMPLES[format]
    try:
        found = named(format).receive(sample.deliver(json.dumps(document).encode()), sample.known).statements.values()
    except Refused as refused:
        return refused
    return next(iter(found), MalformedEvent("nothing is in it"))


def gist(statement: Statement) -> tuple:
    event = statement.event
    return event.type, event.payload, event.txn, event.principal_claim, event.dated


def documents(format: str) -> list[Any]:
    return [json.loads(body) for body in SAMPLES[format].bodies if b"\n" not in body.strip()]


def optional_members(format: str) -> list[tuple[Any, tuple, bool]]:
    """(document, path, whether we use it) of each member without which the event is taken."""
    found = []
    for document in documents(format):
        whole = taken(format, document)
        assert isinstance(whole, Statement), whole
        for path in members(document):
            without = taken(format, changed(document, path))
            if isinstance(without, Statement):
                found.append((document, path, gist(without) != gist(whole)))
    return found


@pytest.mark.parametrize("format", [name for name in NAMES if name != "peac"])
def test_no_format_refuses_an_event_for_a_field_it_does_not_use(format):
    unused = [
        (document, path)
        for document, path, is_used in optional_members(format)
        if not is_used and path[-1] not in RELIED_ON
    ]

    for document, path in unused:
        for value in OF_OTHER_TYPES:
            found = taken(format, changed(document, path, value))
            assert isinstance(found, Statement), (path, value, str(found))


@pytest.mark.parametrize("format", NAMES)
def test_a_field_that_nobody_knows_may_hold_anything(format):
    document = next(d for d in documents(format) if isinstance(d, dict))
    if format in CONFORMING:
        pytest.skip("its specification says that other members are refused")

    @QUICK
    @given(JSON)
    def check(value):
        found = taken(format, document | {"zzz_unknown": value})
        assert isinstance(found, Statement), str(found)

    check()


@pytest.mark.parametrize("format", [name for name in NAMES if name not in CONFORMING])
def test_an_optional_field_that_is_null_is_absent(format):
    for document, path, _ in optional_members(format):
        found = taken(format, changed(document, path, None))
        assert isinstance(found, Statement), (path, str(found))


@pytest.mark.parametrize("format", [name for name in NAMES if name not in NATIVE | CONFORMING])
def test_an_optional_field_of_another_type_is_absent(format):
    for document, path, _ in optional_members(format):
        if RELIED_ON.isdisjoint(map(str, path)):
            for value in OF_OTHER_TYPES:
                found = taken(format, changed(document, path, value))
                assert isinstance(found, Statement), (path, value, str(found))


def test_what_we_rely_on_is_held_to_its_type():
    for format, path, value in [("stripe", ("data", "object", "amount"), "12.5"), ("set", ("events", "urn:answerable:event:payment.captured:v1", "money", "amount_minor"), "x"),
                                ("auth0", ("data", "type"), ""), ("cloudtrail", ("eventID",), "")]:  # fmt: skip
        [document, *_] = documents(format)
        document = changed(document, ("data", "object", "amount_captured")) if format == "stripe" else document
        assert isinstance(taken(format, changed(document, path, value)), Refused), (format, path)
