"""`serve`: the web server, with bounds on what slow and hostile clients can hold (config/asgi.py)."""

import os
import resource

from django.core.management.base import BaseCommand
from django.db import connections

from config.start import refuse_foreign_schema

HEADERS_MS = 10_000  # until a request's headers have come to their end
CONNECTIONS = 16_384  # of one worker: each costs a file descriptor and little else
LINE = 64 * 1024  # bytes of a request's headers


class Command(BaseCommand):
    help = "Serve pages, API and ingest."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser):
        parser.add_argument("--host", default="127.0.0.1")
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument(
            "--workers",
            type=int,
            default=int(os.environ.get("WEB_CONCURRENCY", "1")),
            help="processes (default WEB_CONCURRENCY)",
        )

    def handle(self, *args, **options):
        from granian import Granian
        from granian.constants import HTTPModes, Interfaces
        from granian.http import HTTP1Settings

        os.environ["WEB_CONCURRENCY"] = str(options["workers"])  # rate limits are divided by it
        os.environ["ANSWERABLE_SERVER"] = str(os.getpid())
        refuse_foreign_schema()
        connections.close_all()  # no worker inherits one
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY else 65_536, most))
        Granian(
            "config.asgi:application", address=options["host"], port=options["port"], workers=options["workers"], interface=Interfaces.ASGINL,
            http=HTTPModes.http1, websockets=False, backlog=2_048, backpressure=CONNECTIONS, log_level="warning",
            http1_settings=HTTP1Settings(header_read_timeout=HEADERS_MS, keep_alive=True, max_buffer_size=LINE, pipeline_flush=False),
            respawn_failed_workers=True, respawn_interval=1.0, workers_kill_timeout=10,
        ).serve()  # fmt: skip
