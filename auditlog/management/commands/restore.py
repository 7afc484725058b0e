"""`restore`: a backup into an empty database, verified before anybody sees it."""

from pathlib import Path

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from nacl.signing import SigningKey

from auditlog.core.errors import AnswerableError
from auditlog.core.log.checkpoint import public_key_of
from auditlog.custody.backup import restore


class Command(BaseCommand):
    help = (
        "Load a backup into an empty database (after setup_database), derive every log again from the stored bytes, and"
        " compare with the independent head. Commits only if all of it holds."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", type=Path)
        parser.add_argument(
            "--head", type=Path, action="append",
            help="a signed checkpoint kept elsewhere, or a folder of them (default: the heads kept by the publisher here)",
        )  # fmt: skip
        parser.add_argument("--vkey", action="append", default=[], help="a log's verifier key, known from elsewhere")
        parser.add_argument(
            "--accept-behind", action="store_true", help="restore although leaves were signed since the backup"
        )

    def handle(self, *args, **options):
        heads = options["head"]
        if heads is None:
            heads = [settings.HEADS_DIR] if settings.HEADS_DIR.is_dir() else []
        try:
            for key in options["vkey"]:
                public_key_of(key)
        except ValueError as error:
            raise CommandError(f"--vkey: {error}") from None
        try:
            done = restore(
                options["file"], heads=heads, vkeys=options["vkey"], own_key=_own_key(),
                accept_behind=options["accept_behind"], progress=lambda line: self.stdout.write(f"  {line}") if options["verbosity"] > 1 else None,
            )  # fmt: skip
        except AnswerableError as error:
            raise CommandError(str(error)) from None
        for warning in done.warnings:
            self.stderr.write(self.style.WARNING(warning))
        if not heads:
            self.stderr.write(
                self.style.WARNING("no independent head was given: whether newer leaves were signed is unknown")
            )
        for tenant, size in done.logs.items():
            self.stdout.write(f"{tenant}: {size:,} leaves, derived again and as signed")
        self.stdout.write(f"restored {done.rows:,} rows; everybody has to log in again")


def _own_key() -> bytes | None:
    """The public half of the key that signs here; None where it cannot be read."""
    try:
        return bytes(SigningKey(settings.LOG_KEY_FILE.read_bytes()).verify_key)
    except (OSError, ValueError, TypeError):
        return None
