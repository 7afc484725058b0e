"""One party outside and its one case: made and ended here by who handles the case, used there with link and code."""

from collections.abc import Callable
from datetime import UTC, datetime, time
from functools import wraps

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from auditlog.core.errors import AnswerableError, ConfigurationError, NotFound, NotPermitted, TooManyRequests
from auditlog.custody import security
from dashboard.parts.access import error_page, page
from disputes.case.hand_in import MOST_BYTES
from disputes.models import OutsideLink
from disputes.outside.link import STAYS, come_in, end_link, find_link, hand_in, look, make_link, use
from disputes.queries import find_case

_IN = "outside"  # in the session: by link, until when


class CodeForm(forms.Form):
    code = forms.CharField(
        label="Code", max_length=40, help_text="It came to you another way than the link.",
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "autofocus": True}),
    )  # fmt: skip


class HandInForm(forms.Form):
    title = forms.CharField(label="What it is", max_length=200)
    file = forms.FileField(label="File", required=False, help_text=f"At most {MOST_BYTES // 1024 // 1024} MiB.")
    words = forms.CharField(
        label="Or say it in words", required=False, max_length=20_000, widget=forms.Textarea(attrs={"rows": 6})
    )


def by_link(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Give the view the link that leads here, or say that it leads nowhere."""

    @wraps(view)
    def led(request: HttpRequest, secret: str) -> HttpResponse:
        try:
            link = find_link(secret, now=timezone.now())
        except NotFound as error:
            return error_page(request, 404, "This link is not good", str(error))
        response = view(request, secret, link)
        response["Referrer-Policy"] = "no-referrer"  # the address is half of the key
        return response

    return never_cache(led)


@by_link
@require_http_methods(["GET", "POST"])
def party(request: HttpRequest, secret: str, link: OutsideLink) -> HttpResponse:
    if not _is_in(request, link):
        return _door(request, secret, link)
    use(link, "looked", address=_address(request), now=timezone.now())
    return _shown(request, secret, link, HandInForm())


@by_link
@require_POST
def party_hand_in(request: HttpRequest, secret: str, link: OutsideLink) -> HttpResponse:
    if not _is_in(request, link):
        return redirect("dashboard:party_case", secret=secret)
    form = HandInForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            item = hand_in(
                link, title=form.cleaned_data["title"], address=_address(request), now=timezone.now(), **_given(form)
            )
        except AnswerableError as error:
            form.add_error(None, str(error))
        else:
            _note(request, link, f"handed in item {item.number}")
            late = " It is late: the record was sealed, and a person decides whether it counts." if item.is_late else ""
            messages.success(request, f"It was handed in as item {item.number}.{late}")
            return redirect("dashboard:party_case", secret=secret)
    return _shown(request, secret, link, form, status=422)


@by_link
@require_POST
def party_leave(request: HttpRequest, secret: str, link: OutsideLink) -> HttpResponse:
    if _is_in(request, link):
        use(link, "left", address=_address(request), now=timezone.now())
    request.session[_IN] = {key: until for key, until in request.session.get(_IN, {}).items() if key != str(link.pk)}
    return redirect("dashboard:party_case", secret=secret)


def _given(form: HandInForm) -> dict[str, bytes | str]:
    file, words = form.cleaned_data["file"], form.cleaned_data["words"].strip()
    if bool(file) == bool(words):
        raise ConfigurationError("expected a file or words, one of the two")
    if not file:
        return {"body": words.encode(), "name": "statement.txt", "media_type": "text/plain"}
    if file.size > MOST_BYTES:
        raise ConfigurationError(f"a file has at most {MOST_BYTES:,} bytes, found {file.size:,}")
    return {"body": file.read(), "name": file.name or "", "media_type": file.content_type or ""}


def _door(request: HttpRequest, secret: str, link: OutsideLink) -> HttpResponse:
    form, status = CodeForm(), 200
    if request.method == "POST":
        form, status = CodeForm(request.POST), 422
        if form.is_valid():
            try:
                come_in(link, secret, form.cleaned_data["code"], address=_address(request), now=timezone.now())
            except TooManyRequests as error:
                return error_page(request, 429, "Too many tries", str(error))
            except NotPermitted as error:
                _note(request, link, "gave a wrong code", is_known=False)
                form.add_error("code", str(error))
            else:
                request.session.cycle_key()  # a session that somebody knew before is of no use to him
                until = (timezone.now() + STAYS).isoformat()
                request.session[_IN] = {**request.session.get(_IN, {}), str(link.pk): until}
                _note(request, link, "came in")
                return redirect("dashboard:party_case", secret=secret)
    return render(request, "dashboard/party_door.html", {"form": form}, status=status)


def _is_in(request: HttpRequest, link: OutsideLink) -> bool:
    said = request.session.get(_IN, {}).get(str(link.pk), "")
    until = parse_datetime(said) if said else None
    return until is not None and timezone.now() < until


def _shown(request: HttpRequest, secret: str, link: OutsideLink, form: HandInForm, *, status: int = 200) -> HttpResponse:  # fmt: skip
    context = {"seen": look(link), "link": link, "secret": secret, "form": form}
    return render(request, "dashboard/party_case.html", context, status=status)


def _address(request: HttpRequest) -> str:
    return request.META.get("REMOTE_ADDR", "")


def _note(request: HttpRequest, link: OutsideLink, what: str, *, is_known: bool = True) -> None:
    security.note(
        link.tenant, "link.used", who=f"{link.name}, outside (link {link.pk})", what=f"case {link.case.ref}: {what}",
        address=_address(request), is_known=is_known, now=timezone.now(),
    )  # fmt: skip


# --- of who handles the case ------------------------------------------------------------------------------------------


@page
@require_http_methods(["GET", "POST"])
def case_outside(request: HttpRequest, ref: str) -> HttpResponse:
    """The links of a case with every use of them; a POST makes one, and shows link and code this once."""
    request.viewer.must("case")
    case, made, now = find_case(request.viewer, ref), None, timezone.now()
    if request.method == "POST":
        try:
            day = datetime.strptime(request.POST.get("until", ""), "%Y-%m-%d").date()
            said = {name: request.POST.get(name, "") for name in ("side", "name")}
            made = make_link(
                case, request.viewer, ends_at=datetime.combine(day, time(23, 59, 59), UTC), now=now, **said
            )
        except ValueError:
            messages.error(request, "Until when: expected a date, such as 2027-01-31.")
        except AnswerableError as error:
            messages.error(request, str(error))
    links = [(one, list(one.uses.order_by("-id")[:50])) for one in case.outside.order_by("-id")]
    context = {
        "case": case, "links": links, "sides": OutsideLink._meta.get_field("side").choices, "made": made, "now": now,
        "address": request.build_absolute_uri(f"/party/{made.secret}/") if made else "",
    }  # fmt: skip
    response = render(
        request, "dashboard/case_outside.html", context, status=422 if request.method == "POST" and not made else 200
    )
    response["Cache-Control"] = "private, no-store"
    return response


@page
@require_POST
def case_outside_end(request: HttpRequest, ref: str, number: int) -> HttpResponse:
    end_link(find_case(request.viewer, ref), request.viewer, number, now=timezone.now())
    messages.success(request, "The link has ended: it leads nowhere from now on.")
    return redirect("dashboard:case_outside", ref=ref)
