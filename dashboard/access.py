"""Who may see a page: the decorator every view wears."""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from auditlog.access import viewer_of
from auditlog.core.errors import AnswerableError, NotFound, NotPermitted, NotPossible

# As the API answers them (config/errors.py, which stands above the dashboard).
ANSWERS: tuple[tuple[type[AnswerableError], int, str], ...] = (
    (NotPermitted, 403, "Not permitted"),
    (NotFound, 404, "Not found"),
    (NotPossible, 409, "Not possible now"),
    (AnswerableError, 400, "This cannot be done"),
)
NO_TENANT = (
    "You are signed in, but this account belongs to no tenant yet. An administrator gives it a role under "
    "Configuration, Memberships."
)


def page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Ask for a login, give the view its `request.viewer`, and tell domain errors in words."""

    @wraps(view)
    def guarded(request: HttpRequest, *args, **kwargs) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        request.viewer = viewer_of(request.user)
        if request.viewer is None:
            return error_page(request, 403, "No tenant", NO_TENANT)
        try:
            response = view(request, *args, **kwargs)
        except AnswerableError as error:
            status, title = next((status, title) for kind, status, title in ANSWERS if isinstance(error, kind))
            return error_page(request, status, title, str(error))
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    return guarded


def error_page(request: HttpRequest, status: int, title: str, detail: str = "") -> HttpResponse:
    return render(request, "dashboard/error.html", {"status": status, "title": title, "detail": detail}, status=status)
