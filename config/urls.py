"""Addresses of the whole. /ingest/ is answered before these are asked (config/door.py)."""

from django.contrib import admin
from django.http import JsonResponse
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from auditlog.api import log_views, ssf
from auditlog.core.log.checkpoint import public_key_of
from auditlog.core.wire.keys import b64url, thumbprint
from auditlog.models import LogKey
from auditlog.response.keys import public_jwks
from config import health


def jwks(request):
    """Our own public keys: those that sign the logs, and those that sign signals. The logs' private ones only the
    publisher reads.
    """
    keys = {}
    for row in LogKey.objects.order_by("id"):
        _, public = public_key_of(row.vkey)
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url(public), "alg": "EdDSA", "use": "sig"}
        keys[thumbprint(jwk)] = {**jwk, "kid": thumbprint(jwk)}
    return JsonResponse({"keys": [*keys.values(), *public_jwks()]})


urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("workz", health.workz),
    path("metrics", health.metrics),
    path(".well-known/jwks.json", jwks),
    path(".well-known/ssf-configuration", ssf.ssf_configuration),
    path("ssf/streams", ssf.Streams.as_view()),
    path("ssf/status", ssf.Status.as_view()),
    path("ssf/verify", ssf.Verify.as_view()),
    path("ssf/poll", ssf.Poll.as_view()),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path(
        "api/docs",
        SpectacularSwaggerSplitView.as_view(url_name="schema", template_name="config/docs.html"),
        name="docs",
    ),
    path("api/v1/", include("auditlog.api.urls")),
    path("api/v1/", include("disputes.urls")),
    path("schema/event.json", log_views.event_schema, name="schema-event"),
    path("schema/vectors.json", log_views.vectors, name="schema-vectors"),
    path("log/", include("auditlog.api.log_views")),
    path(
        "admin/login/", RedirectView.as_view(pattern_name="dashboard:login", query_string=True)
    ),  # one door, which is watched
    path("admin/", admin.site.urls),
    path("account/", include("config.signin.urls")),
    path("", include("dashboard.urls")),
]
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.page_not_found"
handler500 = "config.errors.server_error"
