"""Addresses of the public logs, under /log/."""

from django.urls import path

from auditlog.api import log_views

urlpatterns = [
    path("<str:tenant>/checkpoint", log_views.checkpoint),
    path("<str:tenant>/vkey", log_views.vkey),
    path("<str:tenant>/tile/<path:address>", log_views.tile),
]
