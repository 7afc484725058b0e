"""Addresses of the whole. /ingest/ is answered before these are asked (config/door.py)."""

from django.conf import settings
from django.contrib import admin
from django.http import JsonResponse
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from nacl.signing import SigningKey

from auditlog.core.keys import b64url, thumbprint
from config import health


def jwks(request):
    """Our own public keys: today the one that signs the logs."""
    try:
        public = bytes(SigningKey(settings.LOG_KEY_FILE.read_bytes()).verify_key)
    except OSError:
        return JsonResponse({"keys": []})
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": b64url(public), "alg": "EdDSA", "use": "sig"}
    return JsonResponse({"keys": [{**jwk, "kid": thumbprint(jwk)}]})


urlpatterns = [
    path("healthz", health.healthz),
    path("readyz", health.readyz),
    path("metrics", health.metrics),
    path(".well-known/jwks.json", jwks),
    path("api/schema", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs", SpectacularSwaggerView.as_view(url_name="schema"), name="docs"),
    path("api/v1/", include("auditlog.urls")),
    path("api/v1/", include("disputes.urls")),
    path("admin/", admin.site.urls),
    path("", include("dashboard.urls")),
]
handler403 = "config.errors.permission_denied"
handler404 = "config.errors.page_not_found"
