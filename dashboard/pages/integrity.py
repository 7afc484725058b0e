"""Integrity of the record: the log, changes of configuration, and the security log."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods

from auditlog.core.errors import NotPermitted
from auditlog.core.siem.security import KINDS
from auditlog.core.text import number
from auditlog.custody import security
from auditlog.custody.inspect_log import inspect
from auditlog.models import Tenant
from auditlog.reads.access import WATCH, WHOLE
from auditlog.sources import configuration
from auditlog.work.tasks import verify_logs
from dashboard.parts.access import page


@page
@require_http_methods(["GET", "POST"])
def integrity(request: HttpRequest) -> HttpResponse:
    """Whether the log holds: its size and signature, witnesses, holds, verification, and which sources are heard. Who may read
    it may have it verified: that changes nothing, and an auditor is there for it.
    """
    viewer = request.viewer
    viewer.must(WHOLE)
    if request.method == "POST":
        verify_logs.apply_async([viewer.tenant.name], expires=600, retry=False)
        messages.success(request, "A verification was asked for. It shows below once a worker has done it.")
        return redirect("dashboard:integrity")
    found = inspect(viewer.tenant, now=timezone.now())
    return render(request, "dashboard/integrity.html", {"log": found})


@page
@require_GET
def changes(request: HttpRequest) -> HttpResponse:
    """The newest first; the accounts, which belong to the whole service, for those who may change them."""
    viewer = request.viewer
    viewer.must("configure")
    found = configuration.changes(viewer.tenant)
    if found and viewer.user_id is not None:
        configuration.seen(viewer.tenant, viewer.user_id, upto=found[0].leaf_index + 1)
    service = Tenant.objects.filter(name=configuration.SERVICE).first() if request.user.is_superuser else None
    accounts = configuration.changes(service, limit=50) if service else []
    return render(request, "dashboard/changes.html", {"changes": found, "accounts": accounts})


SIZE = 50


@page
@require_GET
def security_log(request: HttpRequest) -> HttpResponse:
    """The newest first, of the viewer's tenant; `of=service` what belongs to none, for superusers."""
    request.viewer.must(WATCH)
    given = request.GET
    is_service = given.get("of") == "service"
    if is_service and not request.user.is_superuser:
        raise NotPermitted("the log of the whole service is for superusers")
    tenant = Tenant.objects.get(name=security.SERVICE) if is_service else request.viewer.tenant
    asked = security.Asked(
        given.get("kind", "") if given.get("kind") in KINDS else "",
        given.get("who", "")[:200],
        given.get("address", "")[:60],
    )
    before = given.get("before", "")
    rows, more = security.read(
        tenant,
        asked,
        before=number(before),
        limit=SIZE,
    )
    shown = {
        "rows": rows, "more": rows[-1].leaf_index if more else None, "asked": asked, "kinds": [(kind, words) for kind, (words, _) in KINDS.items()],
        "is_service": is_service, "may_see_service": request.user.is_superuser, "log": security.log_of(tenant), "fault": security.fault(),
    }  # fmt: skip
    return render(request, "dashboard/security_log.html", shown)
