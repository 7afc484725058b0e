"""What detection reads in place of whole records: balances of the books, ties between acts, and indexes for what is rare.

A tie is made when detection first looks at an act: what was looked at before has none, so a record that is not empty is
looked at again from its beginning.
"""

from importlib.resources import files

import django.db.models.deletion
from django.db import migrations, models

_RARE = (
    "limit.set", "limit.raised", "limit.lowered", "limit.reached", "payment.authority_granted", "delegation.granted",
    "domain.registered", "approval.decided", "approval.requested",
)  # fmt: skip


def _scoped(*more):
    tenant = models.ForeignKey(
        db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to="auditlog.tenant"
    )
    key = models.CompositePrimaryKey(
        "tenant_id", "generation", *more, blank=True, editable=False, primary_key=True, serialize=False
    )
    return [("pk", key), ("tenant", tenant), ("generation", models.IntegerField())]


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0013_sealed_secrets")]

    operations = [
        migrations.CreateModel(
            name="Balance",
            fields=[
                *_scoped("principal", "level", "start", "actor", "grant", "provider", "payee", "currency"),
                ("principal", models.TextField()),
                ("level", models.CharField(max_length=5)),
                ("start", models.DateField()),
                ("actor", models.TextField()),
                ("grant", models.TextField()),
                ("provider", models.TextField()),
                ("payee", models.TextField()),
                ("currency", models.CharField(max_length=3)),
                ("gross", models.DecimalField(decimal_places=15, max_digits=40)),
                ("held", models.DecimalField(decimal_places=15, max_digits=40)),
                ("lines", models.BigIntegerField()),
                ("billed", models.BigIntegerField()),
                ("authorities", models.BigIntegerField()),
            ],
            options={"db_table": "projection_balance"},
        ),
        migrations.CreateModel(
            name="Tie",
            fields=[
                *_scoped("leaf_index", "tie"),
                ("leaf_index", models.BigIntegerField()),
                ("tie", models.UUIDField()),
                ("value", models.UUIDField(null=True)),
                ("at", models.DateTimeField()),
            ],
            options={"db_table": "projection_tie"},
        ),
        migrations.AddIndex(
            "tie", models.Index(fields=["tenant", "generation", "tie", "at", "leaf_index"], name="tie_in_time")
        ),
        migrations.AddIndex(
            "tie",
            models.Index(
                fields=["tenant", "generation", "tie", "value", "at", "leaf_index"],
                name="tie_by_value",
                condition=models.Q(value__isnull=False),
            ),
        ),
        migrations.AddIndex(
            "event",
            models.Index(
                fields=["tenant", "generation", "principal", "type"],
                name="event_rare",
                condition=models.Q(type__in=_RARE),
            ),
        ),
        migrations.AddIndex(
            "limitstatement", models.Index(fields=["tenant", "generation", "set_by"], name="limit_by_setter")
        ),
        migrations.AddField("finding", "events_total", models.BigIntegerField(default=0, db_default=0)),
        migrations.CreateModel(
            name="FindingMember",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "finding_id", "leaf_index", blank=True, editable=False, primary_key=True, serialize=False
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
                (
                    "finding",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="members",
                        to="auditlog.finding",
                    ),
                ),
                ("leaf_index", models.BigIntegerField()),
                ("event_id", models.UUIDField()),
                ("place", models.BigIntegerField()),
                ("told", models.JSONField(null=True)),
                ("severity", models.SmallIntegerField(null=True)),
                ("late", models.FloatField(null=True)),
            ],
            options={"db_table": "finding_member"},
        ),
        migrations.AddIndex("findingmember", models.Index(fields=["tenant", "leaf_index"], name="member_by_leaf")),
        migrations.AddIndex(
            "findingmember",
            models.Index(
                fields=["finding", "severity", "late", "place", "leaf_index"],
                name="member_worst",
                condition=models.Q(severity__isnull=False),
            ),
        ),
        migrations.AddIndex(
            "findingmember", models.Index(fields=["finding", "place", "leaf_index"], name="member_in_order")
        ),
        migrations.RunSQL(
            "INSERT INTO finding_member (tenant_id, finding_id, leaf_index, event_id, place)"
            " SELECT DISTINCT ON (f.id, m.leaf) f.tenant_id, f.id, m.leaf, m.event_id, m.place - 1 FROM finding f"
            " CROSS JOIN LATERAL unnest(f.leaves, f.event_ids) WITH ORDINALITY AS m(leaf, event_id, place)"
            " WHERE m.leaf IS NOT NULL AND m.event_id IS NOT NULL ORDER BY f.id, m.leaf, m.place;"
            " UPDATE finding SET events_total = cardinality(leaves), event_ids = event_ids[:1000], leaves = leaves[:1000]"
        ),
        migrations.RunSQL((files("auditlog") / "sql" / "balances.sql").read_text()),
        migrations.RunSQL("UPDATE projection_state SET detected = 0"),
    ]
