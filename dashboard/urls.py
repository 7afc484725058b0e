from django.urls import path, register_converter
from django.views.generic import RedirectView

from dashboard import changes, connect, security_log, views

app_name = "dashboard"


class AnyText:
    """An id as a sender wrote it: also with slashes and line breaks, which `path` does not take."""

    regex = r"(?s:.+)"
    to_python = to_url = staticmethod(str)


register_converter(AnyText, "any")
urlpatterns = [
    path("", views.overview, name="overview"),
    path("login/", views.Login.as_view(), name="login"),
    path("logout/", views.Logout.as_view(), name="logout"),
    path("search/", views.search, name="search"),
    path("findings/", views.findings, name="findings"),
    path("findings/<int:finding_id>/", views.finding, name="finding"),
    path("events/", views.events, name="events"),
    path("events/<uuid:event_id>/", views.event, name="event"),
    path("sessions/", views.sessions, name="sessions"),
    path("timeline/", views.timeline, name="timeline"),
    path("spend/", views.charges, name="charges"),
    path("parties/", views.parties, name="parties"),
    path("reach/", views.blast_radius, name="reach"),
    path("reach/explorer/", views.explore, name="explorer"),
    path("permissions/", views.permissions, name="permissions"),
    path("compare/", views.compare, name="compare"),
    path("inventory/", views.inventory, name="inventory"),
    path("grants/<any:grant_id>/", views.grant, name="grant"),
    path("integrity/", views.integrity, name="integrity"),
    path("changes/", changes.changes, name="changes"),
    path("security-log/", security_log.security_log, name="security_log"),
    path("sources/", connect.sources, name="sources"),
    path("sources/<str:name>/", connect.source, name="source"),
    path("formats/", connect.format_list, name="formats"),
    path("cases/", views.cases, name="cases"),
    path("cases/<str:ref>/", views.case, name="case"),
    # Browsers ask for it on pages that are not ours to mark up, such as the admin's.
    path("favicon.ico", RedirectView.as_view(url="/static/dashboard/icon.svg")),
    path("plotly.css", views.plotly_css, name="plotly_css"),
]
