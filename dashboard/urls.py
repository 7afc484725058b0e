from django.urls import path, register_converter
from django.views.generic import RedirectView

from dashboard.pages import (
    connect,
    events,
    findings,
    help,
    integrity,
    names,
    overview,
    parties,
    permissions,
    reach,
    rules,
    secrets,
    sessions,
    stops,
)
from dashboard.pages.account import door, join, mine, people
from dashboard.pages.cases import bank_answer, complaints, opening, outcomes, outside
from dashboard.pages.cases import case as cases
from dashboard.pages.incidents import alerts, incident, queue
from dashboard.pages.spend import bills, charges, explore

app_name = "dashboard"


class AnyText:
    """An id as a sender wrote it: also with slashes and line breaks, which `path` does not take."""

    regex = r"(?s:.+)"
    to_python = to_url = staticmethod(str)


register_converter(AnyText, "any")
urlpatterns = [
    path("", overview.overview, name="overview"),
    path("login/", door.Login.as_view(), name="login"),
    path("logout/", door.Logout.as_view(), name="logout"),
    path("account/", mine.account, name="account"),
    path("join/<str:secret>/", join.join, name="join"),
    path("people/", people.people, name="people"),
    path("secrets/", secrets.secrets, name="secrets"),
    path("search/", overview.search, name="search"),
    path("rules/", rules.rules, name="rules"),
    path("rules/<str:name>/", rules.rule, name="rule"),
    path("incidents/", queue.incidents, name="incidents"),
    path("incidents/-/many/", queue.incidents_many, name="incidents_many"),
    path("incidents.csv", queue.incidents_csv, name="incidents_csv"),
    path("incidents/<str:ref>/", incident.incident, name="incident"),
    path("incidents/<str:ref>/verdicts/", incident.verdicts, name="incident_verdicts"),
    path("findings/", findings.findings, name="findings"),
    path("findings/<int:finding_id>/", findings.finding, name="finding"),
    path("findings/<int:finding_id>/names/", names.cluster, name="name_cluster"),
    path("findings/<int:finding_id>/names.csv", names.cluster_csv, name="name_cluster_csv"),
    path("findings/<int:finding_id>/report/", names.report, name="name_report"),
    path("names/", names.names, name="names"),
    path("events/", events.events, name="events"),
    path("events/<uuid:event_id>/", events.event, name="event"),
    path("sessions/", sessions.sessions, name="sessions"),
    path("timeline/", sessions.timeline, name="timeline"),
    path("spend/", charges.charges, name="charges"),
    path("explore/", explore.explore, name="explore"),
    path("bills/", bills.bills, name="bills"),
    path("bills/months/close/", bills.close, name="close_month"),
    path("bills/months/<str:month>/", bills.statement, name="statement"),
    path("bills/<str:ref>/", bills.bill, name="bill"),
    path("parties/", parties.parties, name="parties"),
    path("reach/", reach.blast_radius, name="reach"),
    path("reach/explorer/", reach.explore, name="explorer"),
    path("permissions/", permissions.permissions, name="permissions"),
    path("compare/", permissions.compare, name="compare"),
    path("inventory/", permissions.inventory, name="inventory"),
    path("grants/<any:grant_id>/", parties.grant, name="grant"),
    path("stops/", stops.stops, name="stops"),
    path("stops/new/", stops.stop_it, name="stop_it"),
    path("stops/<str:ref>/", stops.stop, name="stop"),
    path("alerts/", alerts.alerts, name="alerts"),
    path("alerts/<str:name>/", alerts.channel, name="alert_channel"),
    path("receivers/", stops.receivers, name="receivers"),
    path("receivers/<str:name>/", stops.receiver, name="receiver"),
    path("receivers/policies/<str:name>/", stops.policy, name="response_policy"),
    path("integrity/", integrity.integrity, name="integrity"),
    path("changes/", integrity.changes, name="changes"),
    path("security-log/", integrity.security_log, name="security_log"),
    path("sources/", connect.sources, name="sources"),
    path("sources/<str:name>/", connect.source, name="source"),
    path("formats/", connect.format_list, name="formats"),
    path("help/", help.help_page, name="help"),
    path("help/<slug:topic>/", help.help_page, name="help"),
    path("cases/", cases.cases, name="cases"),
    path("packets/", cases.packets, name="packets"),
    path("cases/outcomes/", outcomes.outcomes, name="case_outcomes"),
    path("cases/open/", opening.open_it, name="case_opening"),
    path("complain/<str:secret>/", complaints.complain_here, name="complain"),
    path("complaints/", complaints.complaints, name="complaints"),
    path("complaints/doors/", complaints.complaint_doors, name="complaint_doors"),
    path("complaints/<int:number>/", complaints.complaint, name="complaint"),
    path("party/<str:secret>/", outside.party, name="party_case"),
    path("party/<str:secret>/hand-in/", outside.party_hand_in, name="party_hand_in"),
    path("party/<str:secret>/leave/", outside.party_leave, name="party_leave"),
    path("cases/<str:ref>/outside/", outside.case_outside, name="case_outside"),
    path("cases/<str:ref>/outside/<int:number>/end/", outside.case_outside_end, name="case_outside_end"),
    path("cases/<str:ref>/", cases.case, name="case"),
    path("cases/<str:ref>/again/", cases.case_again, name="case_again"),
    path("cases/<str:ref>/deadline/", cases.case_deadline, name="case_deadline"),
    path("cases/<str:ref>/evidence/", cases.case_evidence, name="case_evidence"),
    path("cases/<str:ref>/evidence/<int:number>/submit/", cases.case_evidence_submit, name="case_evidence_submit"),
    path("cases/<str:ref>/evidence/<int:number>/let-in/", cases.case_evidence_let_in, name="case_evidence_let_in"),
    path("cases/<str:ref>/bank/", bank_answer.case_bank, name="case_bank"),
    path("cases/<str:ref>/refuse/", cases.case_refuse, name="case_refuse"),
    # Browsers ask for it on pages that are not ours to mark up, such as the admin's.
    path("favicon.ico", RedirectView.as_view(url="/static/dashboard/icon.svg")),
    path("plotly.css", overview.plotly_css, name="plotly_css"),
]
