"""Calling other hosts: which addresses never, and every bound, against a real https server."""

import socket
import threading
import time
import traceback

import pytest

from auditlog.core.errors import (
    AddressRefused,
    AnswerTooLarge,
    AnswerTooLate,
    HostUnreachable,
    OutboundError,
    UnexpectedAnswer,
)
from auditlog.core.wire.request import Request, Response
from auditlog.sources.outbound import Bounds, call, check_url, permitted
from tests.https import authority, dripping

SECRET = "sk_live_a_secret_of_the_tests"


def ask(outside, path="/", **how):
    bounds = Bounds(**how.pop("bounds", {}))
    return outside.call(Request(f"{outside.url}{path}", **how), allow_private=True, bounds=bounds)


# --- addresses ------------------------------------------------------------------------------------------------------

PRIVATE = ["127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "100.127.255.255",
           "::1", "fc00::1", "fdff::1"]  # fmt: skip
NEVER = ["0.0.0.0", "169.254.169.254", "192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
         "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1",
         "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:a00:1", "::127.0.0.1", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b::7f00:1",
         "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "2001:db8::1", "3fff::1", "100::1", "4000::1"]  # fmt: skip
PUBLIC = [
    "8.8.8.8",
    "1.1.1.1",
    "172.32.0.1",
    "100.63.255.255",
    "100.128.0.1",
    "192.0.1.1",
    "2606:4700::1111",
    "2a00:1450::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_called_only_where_that_is_allowed(address):
    with pytest.raises(AddressRefused, match=r"h\.example is at a private or loopback"):
        permitted("h.example", [address], allow_private=False)
    assert permitted("h.example", [address], allow_private=True) == [address]


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("allowed", [True, False])
def test_link_local_multicast_translated_and_reserved_addresses_are_never_called(address, allowed):
    with pytest.raises(AddressRefused):
        permitted("h.example", [address], allow_private=allowed)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_called(address):
    assert permitted("h.example", ["10.0.0.1", address], allow_private=False) == [address]


@pytest.mark.parametrize(
    "url",
    ["http://h.example/", "ftp://h.example/", "file:///etc/passwd", "https://", "https:///x", "https://u:p@h.example/", "//h.example/",
     "https://h.example:99999/", "https://h.example/a b", "https://h.example/\n", "https://[::1", "https://h.example/#x",
     "https://ex\u00e4mple/", "https://h.example\\@10.0.0.1/", "h.example", "", "https://h.example/" + "x" * 4000],
)  # fmt: skip
def test_what_is_no_plain_https_address_is_refused_before_anything_is_looked_up(url):
    with pytest.raises(AddressRefused):
        call(Request(url), resolve=lambda *_: pytest.fail("looked up"))
    with pytest.raises(AddressRefused):
        check_url(url)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_this_machine_reaches_it(outside, host):
    with pytest.raises(OutboundError):
        outside.call(Request(f"https://{host}:{outside.port}/"))
    assert outside.asked == []


def test_the_connection_goes_to_the_address_that_was_judged_and_the_name_is_looked_up_once(outside):
    looked_up = []

    def rebinding(host, port):
        looked_up.append(host)
        return ["127.0.0.1"] if len(looked_up) == 1 else ["10.255.255.1"]

    answer = outside.call(Request(f"https://outside.example:{outside.port}/x"), allow_private=True, resolve=rebinding)

    assert answer.status == 200 and looked_up == ["outside.example"]
    assert outside.asked[0][2]["host"] == f"outside.example:{outside.port}"
    with pytest.raises(AddressRefused):
        outside.call(Request(f"https://outside.example:{outside.port}/x"), resolve=lambda *_: ["127.0.0.1"])
    assert len(outside.asked) == 1


def test_another_address_of_the_host_is_tried_when_one_does_not_connect(outside):
    addresses = ["127.0.0.2", "127.0.0.1"]  # nothing listens on the first
    answer = outside.call(Request(outside.url), allow_private=True, resolve=lambda *_: addresses)

    assert answer.status == 200


# --- certificates ---------------------------------------------------------------------------------------------------


def test_a_certificate_that_nobody_trusts_is_refused_and_nothing_is_sent(outside):
    with pytest.raises(HostUnreachable, match="certificate of localhost is not trusted"):
        call(Request(outside.url, headers={"Authorization": SECRET}), allow_private=True)
    assert outside.asked == []


def test_a_certificate_for_another_name_is_refused(outside):
    with pytest.raises(HostUnreachable, match=r"certificate of other\.example is not trusted"):
        outside.call(
            Request(f"https://other.example:{outside.port}/"), allow_private=True, resolve=lambda *_: ["127.0.0.1"]
        )


def test_an_authority_of_the_operators_own_is_trusted_by_the_environment(outside, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(outside.authority_file))

    assert call(Request(outside.url), allow_private=True).status == 200


def test_a_host_that_speaks_no_tls_is_unreachable():
    with socket.create_server(("127.0.0.1", 0)) as plain:
        threading.Thread(target=lambda: plain.accept()[0].sendall(b"HTTP/1.1 200 OK\r\n\r\n"), daemon=True).start()
        with pytest.raises(HostUnreachable):
            call(
                Request(f"https://localhost:{plain.getsockname()[1]}/"), allow_private=True, authorities=authority()[0]
            )


# --- what is sent and what comes back -------------------------------------------------------------------------------


def test_a_request_is_sent_as_it_is_and_the_answer_comes_back_whole(outside):
    outside.answer = lambda method, path, headers, body: (418, {"X-Two": "b"}, body[::-1])

    answer = ask(outside, "/a/b?c=d", method="POST", body=b"abc", headers={"Authorization": f"Bearer {SECRET}"})

    assert (answer.status, answer.body, answer.headers["x-two"]) == (418, b"cba", "b")
    [(method, path, headers, body)] = outside.asked
    assert (method, path, body) == ("POST", "/a/b?c=d", b"abc")
    assert headers["authorization"] == f"Bearer {SECRET}" and headers["accept-encoding"] == "identity"


def test_a_chunked_answer_is_read(outside):
    def chunked(line):
        line.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")

    outside.answer = lambda *_: (200, {}, chunked)

    assert ask(outside).body == b"abcde"


def test_no_redirect_is_followed(outside):
    outside.answer = lambda *_: (302, {"Location": f"{outside.url}/elsewhere"}, b"")

    assert ask(outside).status == 302
    assert len(outside.asked) == 1


def test_a_proxy_of_the_environment_is_not_used(outside, monkeypatch):
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert ask(outside).status == 200


# --- bounds ---------------------------------------------------------------------------------------------------------


def test_an_answer_that_says_it_is_too_long_is_not_read(outside):
    outside.answer = lambda *_: (200, {}, b"x" * 1001)

    with pytest.raises(AnswerTooLarge, match="1,001 bytes, expected at most 1,000"):
        ask(outside, bounds={"size": 1000})


@pytest.mark.parametrize("framing", [b"", b"Transfer-Encoding: chunked\r\n"])
def test_an_answer_without_a_length_is_read_no_further_than_allowed(outside, framing):
    sent = []

    def endless(line):
        line.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        block = b"x" * 65536
        for _ in range(1600):  # 100 MB, were it read
            line.write(b"10000\r\n" + block + b"\r\n" if framing else block)
            sent.append(1)

    outside.answer = lambda *_: (200, {}, endless)

    with pytest.raises(AnswerTooLarge):
        ask(outside, bounds={"size": 1000})
    assert len(sent) < 1600


def test_headers_without_end_are_read_no_further_than_allowed(outside):
    sent = []

    def endless(line):
        for _ in range(6_000):  # 100 MB, were they read
            line.write(b"HTTP/1.1 100 Continue\r\nX: " + b"y" * 16_000 + b"\r\n\r\n")
            sent.append(1)

    outside.answer = lambda *_: (200, {}, endless)

    with pytest.raises(AnswerTooLarge):
        ask(outside, bounds={"size": 10})
    assert len(sent) < 6_000


def test_a_compressed_answer_is_refused_and_never_inflated(outside):
    outside.answer = lambda *_: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b")

    with pytest.raises(UnexpectedAnswer, match="compressed"):
        ask(outside)


def test_a_host_that_says_nothing_is_not_waited_for(outside):
    stop = threading.Event()
    outside.answer = lambda *_: (stop.wait(20), {}, b"")

    with pytest.raises(AnswerTooLate, match="localhost did not answer"):
        ask(outside, bounds={"read": 0.2})
    stop.set()


@pytest.mark.parametrize(
    "text", [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1000, b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"z" * 900]
)
def test_a_host_that_drips_is_ended_by_the_total(outside, text):
    outside.answer = lambda *_: (200, {}, dripping(text))

    with pytest.raises(AnswerTooLate):
        ask(outside, bounds={"read": 5, "total": 0.5})


def test_one_long_silence_is_ended_by_the_total_too(outside):
    def late(line):
        time.sleep(1.5)
        line.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    outside.answer = lambda *_: (200, {}, late)

    with pytest.raises(AnswerTooLate):
        ask(outside, bounds={"read": 5, "total": 0.3})


def test_a_handshake_that_does_not_go_on_is_ended():
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(AnswerTooLate, match="did not connect"):
        call(Request(f"https://localhost:{silent.getsockname()[1]}/"), allow_private=True, bounds=Bounds(connect=0.2))


def test_a_name_that_does_not_resolve_in_time_is_not_waited_for():
    stop = threading.Event()
    with pytest.raises(AnswerTooLate, match="not resolved"):
        call(Request("https://h.example/"), resolve=lambda *_: stop.wait(20), bounds=Bounds(total=0.1))
    stop.set()


def test_a_host_that_does_not_exist_or_does_not_listen_is_unreachable(outside):
    def nowhere(host, port):
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(HostUnreachable, match=r"no such host: h\.example"):
        call(Request("https://h.example/"), resolve=nowhere)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(HostUnreachable, match="cannot be reached: ConnectionRefused"):
        call(Request(f"https://localhost:{port}/"), allow_private=True)


@pytest.mark.parametrize("text", [
    b"", b"garbage\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", b"HTTP/1.1 abc\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
])  # fmt: skip
def test_a_broken_answer_is_an_error_and_never_a_short_body(outside, text):
    outside.answer = lambda *_: (200, {}, lambda line: line.write(text))

    with pytest.raises(HostUnreachable):
        ask(outside)


# --- secrets --------------------------------------------------------------------------------------------------------


def test_no_error_and_no_repr_holds_what_was_sent(outside):
    outside.answer = lambda *_: (200, {}, lambda line: line.write(SECRET.encode()))
    secrets = {"headers": {"Authorization": f"Bearer {SECRET}"}, "body": SECRET.encode(), "method": "POST"}
    attempts = [
        Request(f"{outside.url}/{SECRET}?key={SECRET}", **secrets),
        Request(f"https://u:{SECRET}@localhost/", **secrets),
        Request(f"http://localhost/{SECRET}", **secrets),
        Request(outside.url, headers={"Authorization": f"{SECRET}\r\nX: y"}),
        Request(outside.url, headers={"Authorization": f"{SECRET}\u20ac"}),
    ]

    for request in attempts:
        with pytest.raises(OutboundError) as raised:
            outside.call(request, allow_private=True)
        assert SECRET not in "".join(traceback.format_exception(raised.value))
        assert SECRET not in repr(request)
    assert SECRET not in repr(Response(200, SECRET.encode(), {"x": SECRET}))


# --- Retry-After ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "seconds"), [
    ("120", 120), ("0", 0), ("999999999999", 86400), ("Fri, 20 Nov 2026 12:01:30 GMT", 90), ("Fri, 20 Nov 2026 11:00:00 GMT", 0),
    ("", None), ("soon", None), ("-5", None), ("1.5", None),
])  # fmt: skip
def test_retry_after_is_seconds_or_a_date(said, seconds, now):
    assert Response(429, b"", {"retry-after": said}).retry_after(now=now) == seconds
