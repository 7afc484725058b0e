"""`verify_packet`: check a bundle or packet offline, by the same file that lies inside it."""

import sys

from django.core.management.base import BaseCommand

from auditlog.verifier import answerable_verify


class Command(BaseCommand):
    help = "Check a bundle or packet. Needs no database. Exits 0 when all holds, 1 when something is wrong, 2 for no bundle."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser):
        parser.add_argument("file")
        parser.add_argument(
            "--vkey", action="append", default=[], help="the log's verifier key, from elsewhere than the file"
        )
        parser.add_argument(
            "--witness", action="append", default=[], help="a witness's verifier key, from elsewhere than the file"
        )
        parser.add_argument("--quorum", type=int, help="how many of the witnesses must have cosigned (default: all)")
        parser.add_argument(
            "--source-key", action="append", default=[], metavar="NAME=FILE", help="a source's JWK Set, from the source"
        )
        parser.add_argument("--digest", metavar="SHA256", help="of a packet's manifest.json, as the log states it")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args, **options):
        arguments = [f"--vkey={key}" for key in options["vkey"]] + [f"--witness={key}" for key in options["witness"]]
        arguments += [f"--source-key={given}" for given in options["source_key"]]
        arguments += [f"--digest={options['digest']}"] * (options["digest"] is not None)
        arguments += [f"--quorum={options['quorum']}"] * (options["quorum"] is not None) + ["--json"] * options["json"]
        if code := answerable_verify.main([*arguments, "--", options["file"]]):
            sys.exit(code)
