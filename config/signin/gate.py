"""Who must have a second factor, and what needs a fresh proof of who one is. Asked of people in sessions; a token is a
proof of its own.
"""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.urls import reverse
from django.utils.http import urlencode

from auditlog.people import factors, links
from dashboard.pages.account.door import told
from dashboard.pages.account.proof import ask, is_answered, is_recent, prove
from disputes.core.status import TABLE

# By the names of addresses. Deciding, approving and letting evidence in; stopping; handing out rights and secrets;
# saying whose signature is believed.
SENT = {
    "case-transitions", "case-proposals", "case-approvals", "case-evidence-eligible", "case-settlement-refuse",
    "case_evidence_let_in", "case_refuse", "close_month", "case_bank", "case-bank-answer", "rule", "policy",
    "stop_it", "stop", "stop-list", "stop-lift", "response-list", "receiver", "response_policy",
    "alerts", "alert_channel", "receivers", "people", "secrets", "account", "sources", "source",
    "complaint_doors", "case_outside", "case_outside_end",  # a link lets somebody in, as a token does
}  # fmt: skip
# Taking something out of the record, or seeing what was sealed.
READ = {"event-raw", "export-ocsf", "case-packet", "case-evidence-file"}
DECIDES = {step.after for step in TABLE if step.who == "decide"} | {"proposed", "appeal_proposed", "settled"}
# What somebody without the second factor that he must have still reaches.
OPEN = ("/account/", "/login/", "/logout/", "/static/", "/favicon.ico", "/healthz", "/readyz", "/log/", "/.well-known/")
ENROLS = {"mfa_activate_totp", "mfa_add_webauthn"}
CREDENTIALS = {
    *ENROLS, "mfa_deactivate_totp", "mfa_remove_webauthn", "mfa_generate_recovery_codes", "account_change_password",
    "account_set_password", "socialaccount_connections",
}  # fmt: skip
MACHINES = ("/api/", "/ssf/")


def ask_for_proof(get_response):
    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        _after(request, response)
        return response

    def process_view(request: HttpRequest, view, args, kwargs) -> HttpResponse | None:
        if _by_token(request) or not request.user.is_authenticated:
            return None
        return _second_factor(request) or _fresh_proof(request)

    middleware.process_view = process_view
    return middleware


def _by_token(request: HttpRequest) -> bool:
    """A bearer token where tokens count: whoever sends a bad one beside a session is refused there."""
    return request.path_info.startswith(MACHINES) and request.headers.get("authorization", "").lower().startswith(
        "bearer "
    )


def _second_factor(request: HttpRequest) -> HttpResponse | None:
    session = request.session
    if session.get("second") or session.get("bare") or request.path_info.startswith(OPEN):
        return None
    if not factors.must_have(request.user):
        return None
    if factors.has(request.user):  # added elsewhere since this session began
        if request.path_info.startswith(MACHINES):
            return _refused("this session was begun without the second factor: prove it first")
        return _to_proof(request, second="")
    if request.path_info.startswith(MACHINES):
        return _refused("your role asks for a second factor: add one to your account first")
    messages.warning(request, "Your role asks for a second factor. Add one here; then you can go on.")
    return HttpResponseRedirect(reverse("mfa_index"))


def _fresh_proof(request: HttpRequest) -> HttpResponse | None:
    if not needs_proof(request) or is_recent(request):
        return None
    if request.path_info.startswith(MACHINES):
        where = request.build_absolute_uri(reverse("account_reauthenticate"))
        return _refused(f"prove again who you are first: {where}")
    if is_answered(request):
        wrong = prove(request)
        return ask(request, wrong=wrong) if wrong else None
    return ask(request) if request.method == "POST" else _to_proof(request)


def _to_proof(request: HttpRequest, **more: str) -> HttpResponse:
    query = urlencode({"next": request.get_full_path() if request.method == "GET" else "/", **more})
    return HttpResponseRedirect(f"{reverse('account_reauthenticate')}?{query}")


def _refused(detail: str) -> HttpResponse:
    body = {"type": "about:blank", "title": "Not permitted", "status": 403, "detail": detail}
    return JsonResponse(body, status=403, content_type="application/problem+json")


def needs_proof(request: HttpRequest) -> bool:
    name = request.resolver_match.url_name if request.resolver_match else ""
    if request.method in ("GET", "HEAD"):
        return name in READ
    if request.path_info.startswith("/admin/"):
        return True
    return name in SENT or (name in ("case", "case_bank") and _decides(request))


def _decides(request: HttpRequest) -> bool:
    return not request.path_info.startswith("/api/") and (
        request.POST.get("to") in DECIDES or request.resolver_match.url_name == "case_bank"
    )


def _after(request: HttpRequest, response: HttpResponse) -> None:
    """A change of what one signs in with is told, and ends all other sessions of the account."""
    name = request.resolver_match.url_name if request.resolver_match else ""
    if name not in CREDENTIALS or request.method != "POST" or response.status_code not in (301, 302, 303):
        return
    if not request.user.is_authenticated:
        return
    told(request, "factor.changed", request.user)
    links.end_sessions(request.user, but=request.session.session_key or "")
    if name in ENROLS:
        request.session["second"] = True
