"""The application behind its server: what a request looks like inside, and what becomes of bodies that come too slowly."""

import asyncio
import itertools

import pytest


@pytest.fixture(scope="module")
def asgi(django_db_setup, django_db_blocker):
    with django_db_blocker.unblock():
        from config import asgi
    return asgi


def scope(path="/x", headers=(), client=("203.0.113.9", 4711), query=b"", method="GET"):
    return {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": query, "headers": list(headers),
            "client": client, "server": ("127.0.0.1", 8000), "scheme": "http", "http_version": "1.1"}  # fmt: skip


def environ(asgi, *headers, client=("203.0.113.9", 4711), proxies="", **more):
    return asgi.Application(None, proxies=proxies).environ(scope(headers=headers, client=client, **more), b"body")


@pytest.mark.parametrize("name", [
    b"SCRIPT_NAME", b"script-name", b"X-Script-Name", b"Remote-User", b"REMOTE_USER", b"Path-Info", b"X-Forwarded-For", b"X-Forwarded-Proto",
    b"X-Forwarded-Host", b"Forwarded", b"X-Real-IP", b"X_Forwarded_Proto", b"x-original-url", b"Proxy", b"Http-X_A",
])  # fmt: skip
def test_what_only_a_proxy_may_say_is_dropped_from_anybody_else(asgi, name):
    made = environ(asgi, (name, b"/evil"))

    assert "/evil" not in made.values() and made["SCRIPT_NAME"] == "" and made["REMOTE_ADDR"] == "203.0.113.9"


def test_a_proxy_says_who_asks_and_how_and_nobody_in_front_of_it_does(asgi):
    headers = [
        (b"x-forwarded-for", b"10.9.9.9, 198.51.100.7, 10.0.0.2"),
        (b"x-forwarded-proto", b"https"),
        (b"script-name", b"/evil"),
    ]

    made = environ(asgi, *headers, client=("10.0.0.1", 1), proxies="10.0.0.0/24")

    assert (
        made["REMOTE_ADDR"] == "198.51.100.7"
        and made["HTTP_X_FORWARDED_PROTO"] == "https"
        and made["SCRIPT_NAME"] == ""
    )


@pytest.mark.parametrize("said", [b"nonsense", b"", b"198.51.100.7, nonsense"])
def test_an_address_that_is_none_is_not_believed(asgi, said):
    assert (
        environ(asgi, (b"x-forwarded-for", said), client=("10.0.0.1", 1), proxies="10.0.0.1")["REMOTE_ADDR"]
        == "10.0.0.1"
    )


def test_lines_of_one_header_are_joined_and_the_path_is_kept_as_it_came(asgi):
    made = environ(asgi, (b"x-a", b"1"), (b"X-A", b"2"), (b"cookie", b"a=1"), (b"cookie", b"b=2"), (b"content-length", b"9999"),
                   path="/caf%C3%A9/a%2Fb", query=b"q=%20")  # fmt: skip

    assert (made["HTTP_X_A"], made["HTTP_COOKIE"], made["CONTENT_LENGTH"]) == ("1,2", "a=1; b=2", "4")
    assert made["RAW_URI"] == "/caf%C3%A9/a%2Fb?q=%20" and made["PATH_INFO"].encode("latin-1").decode() == "/café/a/b"
    assert "HTTP_TRANSFER_ENCODING" not in environ(asgi, (b"transfer-encoding", b"chunked"))


def answer_to(asgi, parts, *, app=None, headers=(), room=10_000_000, **more):
    """What an application answers to a body in these parts; a number among them is a wait in seconds, None hanging up."""
    seen, sent = [], []

    def echo(environ, start):
        seen.append(environ["wsgi.input"].read())
        from django.http import HttpResponse

        response = HttpResponse(b"ok")
        start("200 OK", [("Content-Type", "text/plain")])
        return response

    async def main():
        given = iter(parts)

        async def receive():
            for part in given:
                if part is None:
                    return {"type": "http.disconnect"}
                if isinstance(part, (int, float)):
                    await asyncio.sleep(part)
                    continue
                return {"type": "http.request", "body": part, "more_body": True}
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        await asgi.Application(app or echo, threads=1, room=room, proxies="")(
            scope(headers=headers, method="POST"), receive, send
        )

    asyncio.run(main())
    return (sent[0]["status"] if sent else None), b"".join(seen)


def test_a_body_in_many_parts_reaches_the_application_whole(asgi):
    assert answer_to(asgi, [b"a", 0.01, b"b", b"c" * 100_000]) == (200, b"ab" + b"c" * 100_000)


def test_a_body_that_comes_too_slowly_is_refused_and_costs_no_thread(asgi, monkeypatch):
    monkeypatch.setattr(asgi, "BEFORE", 0.2)

    assert answer_to(asgi, [b"a", *([0.05, b"x"] * 100)]) == (408, b"")
    assert answer_to(asgi, [5]) == (408, b"")


def test_what_comes_fast_enough_may_take_longer_than_the_first_bytes(asgi, monkeypatch):
    monkeypatch.setattr(asgi, "BEFORE", 0.2)

    status, body = answer_to(asgi, itertools.chain.from_iterable([b"x" * asgi.SLOWEST, 0.1] for _ in range(5)))

    assert status == 200 and len(body) == 5 * asgi.SLOWEST


def test_nobody_works_for_who_hung_up_or_sent_chunks_that_are_none(asgi):
    assert answer_to(asgi, [b"half", None]) == (400, b"")


@pytest.mark.parametrize("length", [b"18000000", b"9" * 400])
def test_a_length_above_the_bound_is_refused_unread(asgi, length):
    assert answer_to(asgi, [5], headers=[(b"content-length", length)]) == (413, b"")


def test_a_body_that_grows_beyond_the_bound_is_refused(asgi):
    assert answer_to(asgi, [b"x" * 1_000_000] * 40, room=1 << 30) == (413, b"")


def test_what_there_is_no_room_for_is_asked_to_come_again(asgi):
    assert answer_to(asgi, [b"x" * 1_000_000] * 5, room=3_000_000) == (503, b"")


def test_the_largest_of_those_that_arrive_makes_room_for_who_sends_little(asgi):
    async def main():
        room = asgi.Room(1_000)
        many, few = asgi.Body(), asgi.Body()

        async def hold():
            many.reader = asyncio.current_task()
            room.take(many, b"x" * 900)
            await asyncio.sleep(5)

        held = asyncio.ensure_future(hold())
        await asyncio.sleep(0)
        room.take(few, b"y" * 200)
        with pytest.raises(asyncio.CancelledError):
            await held
        assert (many.is_cut, many.parts, few.is_cut, room.held) == (True, [], False, 200)
        worked = asgi.Body(is_whole=True)
        room.take(worked, b"z" * 700)
        with pytest.raises(asgi.Cut):  # what is worked on is never cut
            room.take(asgi.Body(), b"w" * 500)

    asyncio.run(main())
