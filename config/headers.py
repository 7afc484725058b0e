"""Security headers of every page. Strict CSP: no inline script or style, no eval, no foreign host."""

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


# What anybody may read, and keep: files of the pages, and what of the log is published.
KEPT = ("/static/", "/plotly.css", "/favicon.ico", "/log/", "/schema/", "/.well-known/")


def security_headers(get_response):
    def middleware(request):
        response = get_response(request)
        response.headers.setdefault("Content-Security-Policy", POLICY)
        if not request.path_info.startswith(KEPT):
            response.headers.setdefault("Cache-Control", "no-store")
        response.headers.setdefault("Permissions-Policy", "camera=(), microphone=(), geolocation=()")
        return response

    return middleware
