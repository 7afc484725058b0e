"""What the world sees without a login: the log (C2SP tlog-tiles over HTTP) and the published format. No personal data."""

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from auditlog.api import published
from auditlog.core.errors import NotFound
from auditlog.core.log.tlog import parse_tile_address
from auditlog.custody.witness import cosigned_note
from auditlog.ledger import proofs
from auditlog.models import LogKey, Tenant

FOREVER = "public, max-age=31536000, immutable"  # a tile of a given width never changes
BRIEFLY = "public, max-age=1"
A_DAY = "public, max-age=86400"


def _tenant(name: str) -> Tenant:
    tenant = Tenant.objects.filter(name=name).first()
    if tenant is None:
        raise NotFound(f"no log {name[:60]!r}")
    return tenant


@require_safe
def checkpoint(request: HttpRequest, tenant: str) -> HttpResponse:
    """The newest signed head, with the lines of its witnesses."""
    log = _tenant(tenant)
    size, _ = proofs.newest_checkpoint(log)
    note = cosigned_note(log, size)
    return _answer(note.encode(), "text/plain; charset=utf-8", BRIEFLY)


@require_safe
def tile(request: HttpRequest, tenant: str, address: str) -> HttpResponse:
    """`<L>/<N>` or `<L>/<N>.p/<W>`; `entries/<N>` gives the leaves themselves."""
    try:
        wanted = parse_tile_address(address)
    except ValueError as error:
        raise NotFound(str(error)) from None
    return _answer(proofs.tile_bytes(_tenant(tenant), wanted), "application/octet-stream", FOREVER)


@require_safe
def vkey(request: HttpRequest, tenant: str) -> HttpResponse:
    """The verifier keys of this log, newest first, one a line."""
    keys = LogKey.objects.filter(tenant=_tenant(tenant)).order_by("-id").values_list("vkey", flat=True)
    if not keys:
        raise NotFound("nothing was signed for this log yet")
    return _answer("".join(f"{key}\n" for key in keys).encode(), "text/plain; charset=utf-8", BRIEFLY)


@require_safe
def event_schema(request: HttpRequest) -> HttpResponse:
    return _answer(published.event_schema(), "application/schema+json", A_DAY)


@require_safe
def vectors(request: HttpRequest) -> HttpResponse:
    return _answer(published.vectors(), "application/json", A_DAY)


def _answer(body: bytes, content_type: str, cache: str) -> HttpResponse:
    headers = {"Cache-Control": cache, "Access-Control-Allow-Origin": "*"}
    return HttpResponse(body, content_type=content_type, headers=headers)


# Addresses of the public logs, under /log/.
urlpatterns = [
    path("<str:tenant>/checkpoint", checkpoint),
    path("<str:tenant>/vkey", vkey),
    path("<str:tenant>/tile/<path:address>", tile),
]
