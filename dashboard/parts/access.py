"""Who may see a page: the decorator every view wears."""

from collections.abc import Callable
from functools import wraps

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from auditlog.reads.access import viewer_of

NO_TENANT = (
    "You are signed in, but this account belongs to no tenant yet. An administrator gives it a role under "
    "Configuration, Memberships."
)


def signed_in(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Ask for a login and give the view its `request.viewer`: None where the account belongs to no tenant.

    Domain errors are told by whoever serves the pages.
    """

    @wraps(view)
    def guarded(request: HttpRequest, *args, **kwargs) -> HttpResponse:
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        request.viewer = viewer_of(request.user)
        response = view(request, *args, **kwargs)
        response.headers.setdefault("Cache-Control", "private, no-store")
        return response

    return guarded


def page(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The same for whoever belongs to a tenant."""

    @wraps(view)
    def of_a_tenant(request: HttpRequest, *args, **kwargs) -> HttpResponse:
        if request.viewer is None:
            return error_page(request, 403, "No tenant", NO_TENANT)
        return view(request, *args, **kwargs)

    return signed_in(of_a_tenant)


def error_page(request: HttpRequest, status: int, title: str, detail: str = "") -> HttpResponse:
    return render(request, "dashboard/error.html", {"status": status, "title": title, "detail": detail}, status=status)
