"""The security log: who signed in or could not, was refused, took something out or changed how things are set up."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from auditlog.core.errors import NotPermitted
from auditlog.core.siem.security import KINDS
from auditlog.custody import security
from auditlog.models import Tenant
from auditlog.reads.access import WATCH
from dashboard.access import page

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
        before=int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None,
        limit=SIZE,
    )
    shown = {
        "rows": rows, "more": rows[-1].leaf_index if more else None, "asked": asked, "kinds": [(kind, words) for kind, (words, _) in KINDS.items()],
        "is_service": is_service, "may_see_service": request.user.is_superuser, "log": security.log_of(tenant), "fault": security.fault(),
    }  # fmt: skip
    return render(request, "dashboard/security_log.html", shown)
