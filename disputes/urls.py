"""Paths of the argument, below `api/v1/`."""

from django.urls import path

from disputes import views
from disputes.incident import views as incidents

urlpatterns = [
    path("adjudications", views.AdjudicationView.as_view(), name="adjudications"),
    path("incidents", incidents.IncidentList.as_view(), name="incidents"),
    path("incidents/<str:ref>", incidents.IncidentDetail.as_view(), name="incident"),
    path("incidents/<str:ref>/assign", incidents.IncidentAssign.as_view(), name="incident-assign"),
    path("incidents/<str:ref>/note", incidents.IncidentNote.as_view(), name="incident-note"),
    path("incidents/<str:ref>/close", incidents.IncidentClose.as_view(), name="incident-close"),
    path("incidents/<str:ref>/reopen", incidents.IncidentReopen.as_view(), name="incident-reopen"),
    path("incidents/<str:ref>/snooze", incidents.IncidentSnooze.as_view(), name="incident-snooze"),
    path("incidents/<str:ref>/suppress", incidents.IncidentSuppress.as_view(), name="incident-suppress"),
    path("incidents/<str:ref>/bring-back", incidents.IncidentBringBack.as_view(), name="incident-bring-back"),
    path("incidents/<str:ref>/merge", incidents.IncidentMerge.as_view(), name="incident-merge"),
    path("incidents/<str:ref>/split", incidents.IncidentSplit.as_view(), name="incident-split"),
    path("packets", views.PacketCheckView.as_view(), name="packet-check"),
    path("complaints/<str:secret>", views.ComplaintView.as_view(), name="complaint-report"),
    path("cases", views.CaseListView.as_view(), name="cases"),
    path("cases/<str:ref>", views.CaseView.as_view(), name="case"),
    path("cases/<str:ref>/transitions", views.TransitionView.as_view(), name="case-transitions"),
    path("cases/<str:ref>/proposals", views.ProposalView.as_view(), name="case-proposals"),
    path("cases/<str:ref>/approvals", views.ApprovalView.as_view(), name="case-approvals"),
    path("cases/<str:ref>/assessments", views.AssessmentView.as_view(), name="case-assessments"),
    path("cases/<str:ref>/deadlines", views.DeadlineView.as_view(), name="case-deadlines"),
    path("cases/<str:ref>/evidence", views.EvidenceView.as_view(), name="case-evidence"),
    path("cases/<str:ref>/evidence/<int:number>/file", views.EvidenceFileView.as_view(), name="case-evidence-file"),
    path(
        "cases/<str:ref>/evidence/<int:number>/submit", views.EvidenceSubmitView.as_view(), name="case-evidence-submit"
    ),
    path(
        "cases/<str:ref>/evidence/<int:number>/eligible",
        views.EvidenceLetInView.as_view(),
        name="case-evidence-eligible",
    ),
    path("cases/<str:ref>/settlement/refuse", views.SettlementView.as_view(), name="case-settlement-refuse"),
    path("cases/<str:ref>/bank-answer", views.BankAnswerView.as_view(), name="case-bank-answer"),
    path("cases/<str:ref>/packet", views.PacketView.as_view(), name="case-packet"),
]
