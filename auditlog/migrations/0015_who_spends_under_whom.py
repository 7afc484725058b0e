"""Who spends under whom, and where an agent was first seen."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0014_balances_and_ties")]

    operations = [
        migrations.CreateModel(
            name="Place",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "generation",
                        "actor",
                        "place",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                (
                    "tenant",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        to="auditlog.tenant",
                    ),
                ),
                ("generation", models.IntegerField()),
                ("actor", models.TextField()),
                ("place", models.UUIDField()),
                ("first_at", models.DateTimeField()),
            ],
            options={"db_table": "projection_place"},
        ),
        migrations.AddIndex(
            "place", models.Index(fields=["tenant", "generation", "actor", "first_at"], name="place_in_time")
        ),
        migrations.AddIndex(
            "balance",
            models.Index(
                fields=["tenant", "generation", "actor"], name="balance_by_actor", condition=models.Q(level="ever")
            ),
        ),
        migrations.AddIndex(
            "balance",
            models.Index(
                fields=["tenant", "generation", "grant"], name="balance_by_grant", condition=models.Q(level="ever")
            ),
        ),
        migrations.AddIndex(
            "charge",
            models.Index(
                fields=["tenant", "generation", "authority"],
                name="charge_by_authority",
                condition=~models.Q(authority=""),
            ),
        ),
    ]
