"""Start: what a long-running process looks at before it begins."""

import sys

from django.db import DatabaseError, InterfaceError


def refuse_foreign_schema() -> None:
    """End with the reason where the tables are not those of this version: each page would fail by itself. A database
    that is away is waited for, as it is later.
    """
    from config.schema import schema_faults

    try:
        fault = schema_faults()
    except (DatabaseError, InterfaceError):
        return
    if fault:
        sys.stderr.write(f"not started: {fault}\n")
        raise SystemExit(4)
