"""The books of money (core.books): events say which book they count in, lines take the place of charges.

Lines cannot be made from charges, so every generation is marked stale: the service rebuilds it from the ledger.
"""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import migrations, models


def _decimal(**more):
    return models.DecimalField(max_digits=40, decimal_places=15, **more)


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0003_finding_change")]

    operations = [
        migrations.AddField("event", "book", models.CharField(default="", max_length=8)),
        migrations.AddField("event", "amount", _decimal(null=True)),
        migrations.AddField("event", "subscription", models.TextField(default="")),
        migrations.AddField("event", "period_from", models.DateTimeField(null=True)),
        migrations.AddField("event", "period_to", models.DateTimeField(null=True)),
        migrations.AddField("event", "payee", models.TextField(default="")),
        migrations.AddField("event", "payer", models.TextField(default="")),
        migrations.AddField("event", "through", models.UUIDField(null=True)),
        migrations.AddIndex(
            "event",
            models.Index(
                fields=["tenant", "generation", "subscription", "leaf_index"], name="event_by_subscription",
                condition=models.Q(("subscription", ""), _negated=True),
            ),
        ),
        migrations.AddField("limitstatement", "limit_id", models.TextField(default="")),
        migrations.AddField("limitstatement", "session", models.TextField(default="")),
        migrations.AddField("limitstatement", "task", models.TextField(default="")),
        migrations.AddField("limitstatement", "project", models.TextField(default="")),
        migrations.AddField("limitstatement", "counts", models.BooleanField(default=True)),
        migrations.AddField("limitstatement", "signer", models.TextField(default="")),
        migrations.DeleteModel("Charge"),
        migrations.CreateModel(
            "Charge",
            [
                ("pk", models.CompositePrimaryKey("tenant_id", "generation", "rail", "charge", "book", "currency", blank=True, editable=False, primary_key=True, serialize=False)),
                ("tenant", models.ForeignKey(db_constraint=False, db_index=False, on_delete=models.CASCADE, to="auditlog.tenant")),
                ("generation", models.IntegerField()),
                ("rail", models.TextField()),
                ("charge", models.TextField()),
                ("book", models.CharField(max_length=8)),
                ("currency", models.CharField(max_length=3)),
                ("lead", models.UUIDField()),
                ("leaf_index", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                *((name, models.TextField()) for name in (
                    "principal", "actor", "provider", "payee", "account", "grant", "session", "task", "project", "authority",
                )),
                ("spent", _decimal()),
                ("at_most", _decimal()),
                ("returned", _decimal()),
                ("returned_at", ArrayField(models.DateTimeField())),
                ("returned_parts", ArrayField(_decimal())),
                ("held", _decimal()),
                ("held_from", models.DateTimeField(null=True)),
                ("held_until", models.DateTimeField(null=True)),
                ("has_spend", models.BooleanField()),
                ("role", models.CharField(max_length=5)),
                ("source", models.CharField(max_length=48)),
                ("is_joined", models.BooleanField()),
                ("events", ArrayField(models.UUIDField())),
            ],
            options={
                "db_table": "projection_charge",
                "indexes": [
                    GinIndex(fields=["events"], name="charge_by_events", condition=models.Q(is_joined=True)),
                    models.Index(fields=["tenant", "generation", "lead"], name="charge_by_lead"),
                    models.Index(fields=["tenant", "generation", "principal", "at"], name="charge_by_principal"),
                    models.Index(fields=["tenant", "generation", "grant"], name="charge_by_grant", condition=~models.Q(grant="")),
                    models.Index(fields=["tenant", "generation", "at"], name="charge_by_time"),
                    models.Index(
                        fields=["tenant", "generation", "principal", "role", "source"], name="charge_by_role", condition=~models.Q(role="")
                    ),
                ],
            },
        ),
        migrations.RunSQL("UPDATE projection_state SET is_stale = true WHERE position > 0", migrations.RunSQL.noop),
    ]
