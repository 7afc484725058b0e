"""Marked steps of append and publish, where a process can be made to die or to fail. For forked children only."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError

from auditlog.ledger import append, heads, publish

APPEND = [
    f"{when} {step}"
    for step in ("lock", "known", "settle", "leaves", "payloads", "head", "commit")
    for when in ("before", "after")
]
PUBLISH = [
    f"{when} {step}"
    for step in (
        "re-read",
        "tiles",
        "edge",
        "signature",
        "head file",
        "rename",
        "checkpoint row",
        "commit of checkpoint",
    )
    for when in ("before", "after")
]


def fail() -> None:
    """What a lost connection or a full disk looks like to our code."""
    raise OperationalError("injected")


def break_at(step: str, fault: Callable[[], Any]) -> None:
    """Let `fault` happen at this step, in this process, from now on."""

    @contextmanager
    def marked(name: str):
        if step == f"before {name}":
            fault()
        yield
        if step == f"after {name}":
            fault()

    def around(name: str, real: Callable) -> Callable:
        def wrapped(*args, **more):
            with marked(name):
                return real(*args, **more)

        return wrapped

    for name in ("lock", "known", "settle"):
        setattr(append, f"_{name}", around(name, getattr(append, f"_{name}")))
    append.connection = _Connection(append.connection, marked)
    append.transaction = _Transaction("commit", append.transaction, marked)

    publish.stored_hashes = around("re-read", publish.stored_hashes)
    publish.signed = around("signature", publish.signed)
    publish.upsert_rows = around("edge", publish.upsert_rows)
    publish.write_head = around("head file", publish.write_head)
    heads.os = _Os(heads.os, around("rename", heads.os.replace))
    copies = {name: around(name, publish.copy_rows) for name in ("tiles", "checkpoint row")}
    publish.copy_rows = lambda table, *args: copies["tiles" if table == "ledger_tile" else "checkpoint row"](
        table, *args
    )
    publish.transaction = _Transaction("commit of checkpoint", publish.transaction, marked)


class _Transaction:
    def __init__(self, name, real, marked):
        self.name, self.real, self.marked = name, real, marked

    @contextmanager
    def atomic(self):
        atomic = self.real.atomic()
        atomic.__enter__()
        try:
            yield
            end = self.marked(self.name)
            end.__enter__()
        except BaseException as error:
            atomic.__exit__(type(error), error, error.__traceback__)
            raise
        atomic.__exit__(None, None, None)
        end.__exit__(None, None, None)


class _Os:
    def __init__(self, real, replace):
        self.real, self.replace = real, replace

    def __getattr__(self, name):
        return getattr(self.real, name)


class _Connection:
    def __init__(self, real, marked):
        self.real, self.marked = real, marked

    def __getattr__(self, name):
        return getattr(self.real, name)

    @contextmanager
    def cursor(self):
        with self.real.cursor() as cursor:
            yield _Cursor(cursor, self.marked)


class _Cursor:
    def __init__(self, real, marked):
        self.real, self.marked = real, marked

    def __getattr__(self, name):
        return getattr(self.real, name)

    def execute(self, statement, params=None):
        if not statement.startswith("UPDATE ledger_head SET size"):
            return self.real.execute(statement, params)
        with self.marked("head"):
            return self.real.execute(statement, params)

    @contextmanager
    def copy(self, statement):
        with self.marked("leaves" if "ledger_leaf" in statement else "payloads"), self.real.copy(statement) as stream:
            yield stream
