"""How long a session lasts: so long since somebody was last seen, so long in all, by the database's clock."""

from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpRequest, HttpResponse

from auditlog.database import clock
from dashboard.pages.account.door import told

NOTED = 60  # seconds between two writes of when somebody was seen
STEP = 5  # a clock that is this far behind what it was has been set back


def keep_sessions_short(get_response):
    def middleware(request: HttpRequest) -> HttpResponse:
        if request.user.is_authenticated and (why := _over(request)):
            told(request, "session.ended", request.user, result=why)
            logout(request)
        return get_response(request)

    return middleware


def _over(request: HttpRequest) -> str:
    """Why the session ends, or "" and it is noted that it is used."""
    session, now = request.session, clock.now().timestamp()
    if "began" not in session:
        # Not begun at the door: by a test. The update that brought this code ended all others.
        session.update({"began": now, "seen": now, "proved": now, "bare": True})
        return ""
    if (back := session["seen"] - now) > STEP:  # the clock was set back: so are these, and who they are is asked anew
        session.update({"began": session["began"] - back, "seen": now})
        session.pop("proved", None)
    if now - session["began"] >= settings.SESSION_LONGEST_SECONDS:
        return "it lasted long enough"
    if now - session["seen"] >= settings.SESSION_IDLE_SECONDS:
        return "nobody was seen for too long"
    if now - session["seen"] >= NOTED:
        session["seen"] = now
        UserSession.objects.filter(session_key=session.session_key).update(last_seen_at=clock.now())
    return ""
