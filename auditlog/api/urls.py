"""Addresses of the record's API, under /api/v1/."""

from django.urls import path

from auditlog.api import bills, responses, stops, views

urlpatterns = [
    path("events", views.EventList.as_view(), name="event-list"),
    path("events/<uuid:event_id>", views.EventDetail.as_view(), name="event"),
    path("events/<uuid:event_id>/raw", views.EventRaw.as_view(), name="event-raw"),
    path("events/<uuid:event_id>/proof", views.EventProof.as_view(), name="event-proof"),
    path("events/<uuid:event_id>/chain", views.EventChain.as_view(), name="event-chain"),
    path("events/<uuid:event_id>/story", views.EventStory.as_view(), name="event-story"),
    path("parties", views.PartyList.as_view(), name="party-list"),
    path("grants", views.GrantList.as_view(), name="grant-list"),
    path("grants/compare", views.GrantCompare.as_view(), name="grant-compare"),
    path("reach", views.Reach.as_view(), name="reach"),
    path("reach/acts", views.ReachActs.as_view(), name="reach-acts"),
    path("reach/descendants", views.ReachDescendants.as_view(), name="reach-descendants"),
    path("permissions", views.Permissions.as_view(), name="permissions"),
    path("inventory", views.Inventory.as_view(), name="inventory"),
    path("timeline", views.Timeline.as_view(), name="timeline"),
    path("timeline/exposure", views.TimelineExposure.as_view(), name="timeline-exposure"),
    path("tokens", views.TokenList.as_view(), name="token-list"),
    path("limits", views.LimitList.as_view(), name="limit-list"),
    path("spend", views.Spend.as_view(), name="spend"),
    path("bills", bills.Bills.as_view(), name="bill-list"),
    path("bills/<str:ref>/lines", bills.BillLines.as_view(), name="bill-lines"),
    path("sources", views.SourceList.as_view(), name="source-list"),
    path("export/ocsf", views.ExportOcsf.as_view(), name="export-ocsf"),
    path("responses", responses.Responses.as_view(), name="response-list"),
    path("responses/<str:ref>", responses.ResponseDetail.as_view(), name="response"),
    path("stops", stops.Stops.as_view(), name="stop-list"),
    path("stops/reach", stops.StopReach.as_view(), name="stop-reach"),
    path("stops/<str:ref>", stops.StopDetail.as_view(), name="stop"),
    path("stops/<str:ref>/lift", stops.StopLift.as_view(), name="stop-lift"),
    path("domains/score", views.DomainScore.as_view(), name="domain-score"),
    path("findings", views.FindingList.as_view(), name="finding-list"),
    path("findings/<int:finding_id>", views.FindingDetail.as_view(), name="finding"),
    path("findings/<int:finding_id>/events", views.FindingEvents.as_view(), name="finding-events"),
    path("findings/<int:finding_id>/triage", views.FindingTriage.as_view(), name="finding-triage"),
]
