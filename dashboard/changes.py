"""Changes of configuration: each is a leaf that names who made it, and every admin is told until they have looked."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from auditlog.models import Tenant
from auditlog.sources import configuration
from dashboard.access import page


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
