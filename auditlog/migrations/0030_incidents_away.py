"""Incidents that somebody took out of the queue: until they grow, or for some days."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0029_things_of_one_name")]

    operations = [
        migrations.AddField("incident", "away", models.CharField(blank=True, choices=[("snoozed", "Snoozed"), ("suppressed", "Suppressed")], default="", max_length=10), preserve_default=False),
        migrations.AddField("incident", "away_until", models.DateTimeField(null=True)),
        migrations.AddField("incident", "away_members", models.BigIntegerField(null=True)),
        migrations.AddField("incident", "away_rank", models.SmallIntegerField(null=True)),
        migrations.AlterField(
            "incidentstep",
            "kind",
            models.CharField(
                choices=[
                    ("opened", "Opened"), ("grew", "Grew"), ("merged", "Merged"), ("took_in", "took in another"), ("split", "split off"),
                    ("withdrawn", "Withdrawn"), ("resolved", "Resolved"), ("reopened", "Reopened"), ("assigned", "Assigned"), ("note", "Note"),
                    ("closed", "Closed"), ("snoozed", "Snoozed"), ("suppressed", "Suppressed"), ("returned", "Returned"),
                ],
                max_length=10,
            ),
        ),
    ]
