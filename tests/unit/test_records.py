"""Records of a delivery: gzip, sizes, depth, charset; bounded whatever comes."""

import gzip
import json
import time
import zlib

import pytest

from auditlog.core.errors import DeliveryTooLarge, MalformedEvent, Refused, WrongContentType
from auditlog.formats import Delivery, records


def split(body, content_type="application/json", **headers):
    return records.split(Delivery(body, content_type, headers))


def test_gzip_is_taken_by_its_header_or_its_first_bytes_and_in_several_members():
    lines = b'{"a":1}\n{"a":2}'
    packed = gzip.compress(lines[:8], mtime=0) + gzip.compress(lines[8:], mtime=0)

    assert split(packed)[0] == split(packed, **{"content-encoding": "gzip"})[0] == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize(
    "body", [b"\x1f\x8bnonsense", gzip.compress(b'{"a":1}', mtime=0)[:-5], gzip.compress(b"{}", mtime=0) + b"rest"]
)
def test_broken_gzip_is_refused(body):
    with pytest.raises(MalformedEvent):
        split(body)


def test_a_gzip_bomb_is_refused_without_being_unpacked():
    bomb = gzip.compress(b" " * (records.MAX_INFLATED + 1), mtime=0)
    members = gzip.compress(b" ", mtime=0) * 10_000

    for body in (bomb, members):
        with pytest.raises(DeliveryTooLarge):
            split(body)


def test_deflate_is_taken_as_zlib_writes_it_and_where_a_proxy_unpacked_it():
    lines = b'{"a":1}\n{"a":2}'

    for level in range(10):
        assert split(zlib.compress(lines, level), **{"content-encoding": "deflate"})[0] == [b'{"a":1}', b'{"a":2}']
    assert split(lines, **{"content-encoding": "deflate"})[0] == [b'{"a":1}', b'{"a":2}']


@pytest.mark.parametrize(
    "body",
    [
        zlib.compress(b'{"a":1}')[:-3],
        zlib.compress(b"{}") + b"rest",
        b"x\x9cnonsense",
        zlib.compress(b'{"a":1}', wbits=-15),
    ],
)
def test_broken_deflate_is_refused_and_so_is_one_without_its_header(body):
    with pytest.raises(MalformedEvent, match="deflate"):
        split(body, **{"content-encoding": "deflate"})


def test_a_deflate_bomb_is_refused_without_being_unpacked():
    bomb = zlib.compress(b" " * (records.MAX_INFLATED + 1))

    with pytest.raises(DeliveryTooLarge):
        split(bomb, **{"content-encoding": "deflate"})


@pytest.mark.parametrize(
    "body",
    [b"[" + b"1," * (records.MAX_VALUES + 1) + b"1]", b"{}" + b"\n" * 50_000 + b"{}", b"[" + b"{}," * 20_000 + b"{}]"],
)
def test_too_many_records_are_refused_before_they_cost_memory(body):
    with pytest.raises(Refused):
        split(body)


def test_a_body_of_lines_and_one_object_over_many_lines_are_told_apart():
    thing = {"a": {"b": 1}}
    assert split(json.dumps(thing, indent=2).encode()) == ([json.dumps(thing, indent=2).encode()], True)
    assert split(b'{"a":1}\r\n\r\n{"a":2}\n') == ([b'{"a":1}', b'{"a":2}'], False)


def test_a_byte_order_mark_is_no_part_of_the_record():
    assert split(b"\xef\xbb\xbf{}")[0] == [b"{}"]


@pytest.mark.parametrize("body", [b"", b"  ", b"[", b"[{}", b"{", b'{"a":}', b"\xff\xfe{\x00}\x00"])
def test_truncated_and_empty_bodies_are_refused(body):
    with pytest.raises(MalformedEvent):
        split(body)


def test_another_charset_is_refused_by_name():
    with pytest.raises(WrongContentType, match="iso-8859-1"):
        split(b"{}", **{"content-type": 'application/json; charset="ISO-8859-1"'})


def test_a_record_is_bounded_in_size_depth_and_charset():
    for bad in (b'{"a":"' + b"x" * records.MAX_RECORD + b'"}', b'{"a":' * 65 + b"1" + b"}" * 65, b'{"a":"\xff"}'):
        with pytest.raises(Refused):
            records.bounded(bad)
    records.bounded(b'{"a":"' + b"[" * 1000 + b'"}')
    records.bounded(b"[" + b"{}," * 1000 + b"{}]")


def test_depth_takes_linear_time_on_a_string_without_end():
    hostile = b"[" * 65 + b'"' + b'\\"' * 100_000

    started = time.perf_counter()
    records.depth(hostile)

    assert time.perf_counter() - started < 1


def test_a_wrapper_that_is_there_twice_is_refused_so_that_no_record_is_lost():
    def unwrapped(body):
        return records.split(Delivery(body, "application/json", {}), wrappers=("Records",))[0]

    with pytest.raises(MalformedEvent, match="twice"):
        unwrapped(b'{"Records": [{"a": 1}], "Records": [{"b": 2}]}')
    assert unwrapped(b'{"Records": [{"Records": 1}, {"n": "Records"}]}') == [b'{"Records": 1}', b'{"n": "Records"}']


@pytest.mark.parametrize("between", [b"", b" ", b"\n", b"\x1e", b"\n\x1e"])
def test_objects_that_follow_each_other_are_records_each(between):
    one, two = b'{"id":"a}{b","list":[{},{}]}', b'{"id":"c"}'

    assert split(between + one + between + two + between) == ([one, two], False)


@pytest.mark.parametrize(
    "body", [b'{"a":1}{"b":', b'{"a":1}{"b":1}]', b'{"a":1}x{"b":1}', b'{"a":1}{"b":1}"x"', b'{"a":1}{"b":1}}']
)
def test_what_only_begins_so_is_refused(body):
    with pytest.raises(MalformedEvent):
        split(body)
