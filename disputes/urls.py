"""Paths of the argument, below `api/v1/`."""

from django.urls import path

from disputes import views

urlpatterns = [
    path("adjudications", views.AdjudicationView.as_view(), name="adjudications"),
    path("cases", views.CaseListView.as_view(), name="cases"),
    path("cases/<str:ref>", views.CaseView.as_view(), name="case"),
    path("cases/<str:ref>/transitions", views.TransitionView.as_view(), name="case-transitions"),
    path("cases/<str:ref>/proposals", views.ProposalView.as_view(), name="case-proposals"),
    path("cases/<str:ref>/approvals", views.ApprovalView.as_view(), name="case-approvals"),
    path("cases/<str:ref>/packet", views.PacketView.as_view(), name="case-packet"),
]
