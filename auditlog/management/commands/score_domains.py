"""score_domains: which brand each name stands close to. Reads names, a line each; writes a JSON line for each, in
order.
"""

import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError

from auditlog.core.names.background import bundled
from auditlog.core.names.lookalike import Index, popular_brands, told

LONGEST_LINE = 4_096  # bytes; a name has 253


class Command(BaseCommand):
    help = (
        "Score names, one a line on standard input, against brands: {name, brand, relation, score, tier} a line, in"
        " the same"
        " order, also for what is no name (then with `error`). `score` is -log10 of how common such a likeness is"
        " among real"
        " registrations; tier alert, review or none. Needs no database."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--brands",
            metavar="FILE",
            type=Path,
            help="names, marks or domains, one a line; replaces the bundled list of popular names",
        )

    def handle(self, *, brands: Path | None, **options: Any) -> None:
        index = Index(popular_brands() if brands is None else _lines_of(brands), bundled())
        if not index.marks:
            raise CommandError(f"{brands} holds no brand: a name, mark or domain a line is expected")
        out = sys.stdout.buffer
        try:
            for line in score(sys.stdin.buffer, index):
                out.write(line)
            out.flush()
        except BrokenPipeError:  # whoever reads has had enough
            sys.stderr.close()


def score(lines: Iterable[bytes], index: Index) -> Iterator[bytes]:
    for raw in lines:
        name = raw[:LONGEST_LINE].rstrip(b"\r\n").decode("utf-8", "replace")
        yield orjson.dumps(told(index, name)) + b"\n"


def _lines_of(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the brands file cannot be read: {error}") from None
    return [line.strip() for line in text.splitlines() if line.strip()]
