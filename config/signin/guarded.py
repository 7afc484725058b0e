"""What allauth asks of an identity provider goes out by our guard: https only, to addresses that were judged, without
redirects and proxies, bounded in time and size (auditlog/sources/outbound.py).
"""

from typing import Any

import requests
from django.conf import settings
from requests.adapters import BaseAdapter
from requests.structures import CaseInsensitiveDict

from auditlog.core.errors import OutboundError
from auditlog.core.wire.request import Request
from auditlog.sources import outbound


class Guarded(BaseAdapter):
    def send(self, request: requests.PreparedRequest, *args: Any, **more: Any) -> requests.Response:
        # Our client says these itself, and asks for nothing compressed.
        ours = ("content-length", "connection", "accept-encoding", "user-agent")
        headers = {name: str(value) for name, value in request.headers.items() if name.lower() not in ours}
        body = request.body.encode() if isinstance(request.body, str) else request.body
        try:
            answer = outbound.call(
                Request(request.url or "", method=request.method or "GET", headers=headers, body=body),
                allow_private=settings.OIDC_ALLOW_PRIVATE,
            )
        except OutboundError as error:
            raise requests.ConnectionError(str(error)) from None
        response = requests.Response()
        response.status_code, response._content = answer.status, answer.body
        response.headers = CaseInsensitiveDict(answer.headers)
        response.url, response.request = request.url or "", request
        response.encoding = "utf-8"
        return response

    def close(self) -> None:
        pass


def session() -> requests.Session:
    made = requests.Session()
    made.trust_env = False
    made.max_redirects = 0
    for scheme in ("https://", "http://"):
        made.mount(scheme, Guarded())
    return made
