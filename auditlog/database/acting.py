"""Acting: who does what is being done, for the leaves that state changes of configuration. Each names a person."""

import getpass
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import connection

_by: ContextVar[str] = ContextVar("acting", default="")


def acting() -> str:
    """Who acts: the signed-in person of a request, else the account on this machine that runs the command."""
    return _by.get() or operator()


def operator() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a bare uid, as containers have
        name = f"uid {os.getuid()}"
    return f"operator {name} on {socket.gethostname()}"


@contextmanager
def acting_as(who: str) -> Iterator[None]:
    """Everything done meanwhile is done by this person; what the database itself notes of it as well."""
    token = _by.set(who)
    _tell_database(who)
    try:
        yield
    finally:
        _by.reset(token)
        if connection.connection is not None and not connection.connection.closed and not connection.needs_rollback:
            _tell_database("")


def _tell_database(who: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('answerable.by', %s, false)", [who])
