"""Tidy: what the door wrote down and nobody needs any more. Once a night."""

from datetime import datetime, timedelta

from allauth.usersessions.models import UserSession
from django.contrib.sessions.models import Session

from auditlog.database import throttle
from auditlog.models import OneTimeLink

KEPT = timedelta(days=30)  # a link that is over, so that an admin can see that there was one


def tidy(*, now: datetime) -> None:
    throttle.forget_old()
    Session.objects.filter(expire_date__lt=now).delete()
    UserSession.objects.exclude(session_key__in=Session.objects.values("session_key")).delete()
    OneTimeLink.objects.filter(ends_at__lt=now - KEPT).delete()
