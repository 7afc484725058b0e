"""Security headers of every page. Strict CSP: no inline script or style, no eval, no foreign host."""

from urllib.parse import urlsplit

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",  # plotly's own "download as image" draws into blobs
        "font-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)


def policy_with_forms_to(addresses: list[str]) -> str:
    """The same for a page whose forms may lead to identity providers: browsers hold redirects against it, too."""
    origins = sorted({f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, addresses)})
    return POLICY.replace("form-action 'self'", " ".join(("form-action 'self'", *origins)))


# What anybody may read, and keep: files of the pages, and what of the log is published.
KEPT = ("/static/", "/plotly.css", "/favicon.ico", "/log/", "/schema/", "/.well-known/")


def security_headers(get_response):
    def middleware(request):
        response = get_response(request)
        leads_to = getattr(response, "leads_to", [])  # pages of signing in: providers of identities
        response.headers.setdefault("Content-Security-Policy", policy_with_forms_to(leads_to) if leads_to else POLICY)
        if not request.path_info.startswith(KEPT):
            response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        return response

    return middleware
