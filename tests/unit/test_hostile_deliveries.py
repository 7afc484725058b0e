"""Every format against hostile bytes: nothing but Refused comes out, the good is kept, and what is stored reads the
same.
"""

import gc
import json
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.errors import Refused
from auditlog.formats import NAMES, About, Received, Statement, named, records
from tests.deliveries import SAMPLES

FUZZ = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
RECORD_FORMATS = [name for name in NAMES if named(name).__dict__.get("ENCODINGS")]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        1.5,
        1e308,
        2**63,
        10**30,
        "",
        "\x00",
        "\ud7ff",
        "x" * 600,
        "|",
        "4" * 16,
        "NaN",
        "sNaN",
        "-Infinity",
        "1e999999999",
        [],
        {},
        [[]],
        {"a": {}},
    ]
)


def take(name, body) -> Received | None:
    """Receive a body; what is accepted must be bounded and read again from the stored bytes."""
    sample, module = SAMPLES[name], named(name)
    try:
        received = module.receive(sample.deliver(body), sample.known)
    except Refused as refused:
        assert str(refused) and len(str(refused)) < 5000
        return None
    for statement in received.statements.values():
        if isinstance(statement, Statement):
            assert 0 < len(statement.source_event_id) <= 500 and "\x00" not in statement.source_event_id
            assert len(statement.event.type) <= 200 and len(statement.raw) <= 1 << 20
            assert module.parse(statement.raw, statement.headers, sample.known) == statement.event
            assert module.content(statement.raw, statement.headers)
    return received if received.statements else None


def test_every_format_has_a_sample_and_says_what_it_is():
    assert set(SAMPLES) == set(NAMES)
    for name in NAMES:
        about = named(name).ABOUT
        assert isinstance(about, About) and about.grade[:1] in "ABCDEF" and len(about.connect) >= 2, name
        assert all(getattr(about, field) for field in About.__slots__), name
        steps = " ".join(step.format(address="ADDRESS", secret="SECRET") for step in about.connect)
        assert "ADDRESS" in steps and "{{" not in steps, name
        assert "{{" not in about.sent + about.carries + about.lacks, name


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_are_good_and_a_redelivery_is_the_same_statement(name):
    for body in SAMPLES[name].bodies:
        first, again = take(name, body), take(name, body)

        assert first is not None and not any(isinstance(s, Refused) for s in first.statements.values())
        assert list(first.statements) == list(again.statements)
        for one, two in zip(first.statements.values(), again.statements.values(), strict=True):
            content = named(name).content
            assert content(one.raw, one.headers) == content(two.raw, two.headers)


@pytest.mark.parametrize("name", NAMES)
def test_a_truncated_delivery_is_refused(name):
    body = SAMPLES[name].bodies[0]
    for cut in (0, 1, len(body) // 2, len(body) - 1):
        assert take(name, body[:cut]) is None


@pytest.mark.parametrize("name", NAMES)
def test_an_oversized_delivery_is_refused(name):
    assert take(name, b'{"a":"' + b"x" * (2 << 20) + b'"}') is None


@pytest.mark.parametrize("name", NAMES)
def test_deep_nesting_is_refused_and_not_crashed_on(name):
    for depth in (200, 100_000):
        for left, right in ((b'{"a":', b"}"), (b"[", b"]")):
            assert take(name, left * depth + b"1" + right * depth) is None


@pytest.mark.parametrize("name", NAMES)
def test_another_charset_is_refused(name):
    body = SAMPLES[name].bodies[0]
    assert take(name, body.decode().encode("utf-16")) is None
    assert take(name, b"\xff\xfe\xfd") is None


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "body", [b"null", b"1", b'"x"', b"true", b"[]", b"{}", b"[1]", b"[null]", b"<xml/>", b"a=b", b"\n\n"]
)
def test_what_is_no_event_is_refused(name, body):
    assert take(name, body) is None


@pytest.mark.parametrize("name", RECORD_FORMATS)
def test_good_records_are_kept_beside_bad_ones(name):
    good = SAMPLES[name].bodies[0]
    lines = [
        json.dumps(json.loads(good)).encode(),
        b'{"broken": ',
        b'"text"',
        b'{"a":' * 70 + b"1" + b"}" * 70,
        b'{"a":"\xff"}',
    ]

    statements = take(name, b"\n".join(lines)).statements.values()

    assert [isinstance(s, Refused) for s in statements].count(True) == 4
    assert any(isinstance(s, Statement) for s in statements)


@pytest.mark.parametrize("name", RECORD_FORMATS)
def test_a_record_over_its_bound_is_refused_and_the_others_are_kept(name):
    good = json.dumps(json.loads(SAMPLES[name].bodies[0])).encode()
    statements = take(name, good + b'\n{"x":"' + b"y" * records.MAX_RECORD + b'"}').statements.values()

    assert [isinstance(s, Refused) for s in statements].count(True) == 1


@pytest.mark.parametrize("name", NAMES)
@FUZZ
@given(
    body=st.binary(max_size=200) | st.text(max_size=200).map(str.encode) | JSON.map(lambda v: json.dumps(v).encode())
)
def test_no_bytes_escape_as_anything_but_a_refusal(name, body):
    take(name, body)


def paths(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in value:
            yield from paths(value[key], (*path, key))
    elif isinstance(value, list):
        for index in range(len(value)):
            yield from paths(value[index], (*path, index))


def with_value(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = with_value(copy[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", NAMES)
@FUZZ
@given(data=st.data())
def test_no_mutated_delivery_escapes_as_anything_but_a_refusal(name, data):
    body = data.draw(st.sampled_from(SAMPLES[name].bodies))
    if data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(at, min(len(body), at + 8)))
        take(name, body[:at] + data.draw(st.binary(max_size=6)) + body[end:])
        return
    try:
        document = json.loads(body)
    except ValueError:
        return
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(list(paths(document))))
        document = with_value(document, path, data.draw(ODD | JSON))
    take(name, json.dumps(document).encode())


# --- a shared secret that is being rotated
# ------------------------------------------------------------------------------------

SHARED = [name for name in NAMES if SAMPLES[name].known.secret()]


@pytest.mark.parametrize("name", SHARED)
def test_beside_a_new_secret_the_old_one_is_good_until_it_is_taken_out(name):
    sample, module = SAMPLES[name], named(name)
    delivery = sample.deliver(sample.bodies[0])
    if name == "caep" or delivery.content_type.endswith("+jwt"):
        pytest.skip("signed by a key of its own")
    old = sample.known.secret()
    new = b"whsec_" + b"bmV3LXNlY3JldC1uZXctc2VjcmV0LW5ldw==" if old.startswith(b"whsec_") else b"another-secret"
    both, over = (
        replace(sample.known, secret=lambda: new, old_secret=lambda: old),
        replace(sample.known, secret=lambda: new),
    )

    assert all(isinstance(one, Statement) for one in module.receive(delivery, both).statements.values())
    if not sample.known.keys:
        with pytest.raises(Refused):
            module.receive(delivery, over)
        with pytest.raises(Refused):
            module.receive(delivery, replace(sample.known, secret=lambda: None))


# --- memory
# ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_hostile_deliveries_leave_no_memory_behind(name):
    """Hundreds that all differ, with names that never come twice. (Of names some are remembered, and not for ever.)"""
    chance, bodies = Random(name), [body.splitlines()[0] for body in SAMPLES[name].bodies]

    def send(count):
        for _ in range(count):
            document = json.loads(chance.choice(bodies))
            document = document[0] if isinstance(document, list) else document
            document[f"n{chance.getrandbits(64):x}"] = {f"m{chance.getrandbits(64):x}": "x" * 10_000}
            path = chance.choice(list(paths(document)))
            with suppress(TypeError):  # a path through a text
                document = with_value(
                    document, path, chance.choice([None, -1, 10**30, "\x00", "x" * 600, [], {}, [[]], {"a": {}}])
                )
            body = json.dumps(document).encode()
            cut = chance.randrange(len(body))
            take(name, body if chance.random() < 0.8 else body[:cut])

    send(100)
    tracemalloc.start()
    try:
        send(100)
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        send(400)
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()

    assert grown < 800_000, f"{grown:,} bytes more after 400 deliveries"


@pytest.mark.parametrize("name", NAMES)
def test_a_word_for_a_number_that_is_none_escapes_as_nothing_but_a_refusal(name):
    for body in SAMPLES[name].bodies:
        with suppress(ValueError):
            document = json.loads(body)
            for path in paths(document):
                for word in ("NaN", "sNaN", "-Infinity", "1e999999999", "-0", "٣", "0x10", "1_000"):
                    take(name, json.dumps(with_value(document, path, word)).encode())
