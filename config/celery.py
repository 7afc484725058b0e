"""Celery: wake-ups only. What there is to do is read from positions in PostgreSQL, so a lost message loses no work."""

import os
import time
from datetime import UTC, datetime, timedelta

from celery import Celery
from celery.schedules import schedule
from kombu.transport import redis


def _parameters_of_a_live_connection(self, *args, _of=redis.Channel._connparams, **kwargs):
    """kombu 5.7 gives back and acknowledges messages over a channel whose connection is gone, and the AttributeError
    ends the whole worker. A connection error, which this is, makes it reconnect. Wake-ups lost that way come again.
    """
    if getattr(self.connection, "client", None) is None:
        raise ConnectionResetError("the connection of this channel is gone")
    return _of(self, *args, **kwargs)


redis.Channel._connparams = _parameters_of_a_live_connection
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
app = Celery("answerable")
_BEGAN = datetime.now(UTC), time.monotonic()


def _unset() -> datetime:
    """A clock that nobody sets: beat counts its intervals by it. By the wall clock it would send nothing for as long as
    that was set back.
    """
    return _BEGAN[0] + timedelta(seconds=time.monotonic() - _BEGAN[1])


def every(seconds: float) -> schedule:
    return schedule(run_every=timedelta(seconds=seconds), nowfun=_unset)


app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    worker_prefetch_multiplier=1,
    # KiB: between two tasks a process that has grown is replaced; Python gives little back
    worker_max_memory_per_child=350_000,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
    # A wake-up that cannot be sent at once is dropped: beat drives the same work a moment later. Without `max_retries`
    # kombu sleeps 2 and 4 s over a dead broker, in the middle of a request, whatever `task_publish_retry` says.
    broker_transport_options={
        "socket_timeout": 2,
        "socket_connect_timeout": 0.5,
        "visibility_timeout": 600,
        "max_retries": 0,
    },
    task_publish_retry=False,
    timezone="UTC",
    beat_scheduler="celery.beat:Scheduler",  # in memory: the schedule below never changes at run time
    beat_schedule={
        "nightly": {"task": "auditlog.nightly", "schedule": every(60.0)},
        "watch": {"task": "auditlog.watch", "schedule": every(10.0)},
        "backtest": {"task": "auditlog.backtest", "schedule": every(3.0)},
        "assess-large-cases": {"task": "disputes.run_jobs", "schedule": every(5.0)},
        "mind-deadlines": {"task": "disputes.mind_deadlines", "schedule": every(30.0)},
        "forget-erased": {"task": "auditlog.forget_erased", "schedule": every(60.0)},
        "pull-what-is-due": {"task": "auditlog.pull_all", "schedule": every(2.0)},
        "drive-every-road": {"task": "auditlog.drive_all", "schedule": every(1.0)},
    },
)
app.autodiscover_tasks(["auditlog.work", "disputes"])
