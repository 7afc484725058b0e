"""What each block of leaves says of a party, and the indexes an erasure needs: it no longer reads the whole record again.

Generations that were written before have no mentions: their first erasure rebuilds them, as every one did.
"""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0010_sums_without_end")]

    operations = [
        migrations.AddField("projectionstate", "has_mentions", models.BooleanField(default=False)),
        migrations.AlterField("projectionstate", "has_mentions", models.BooleanField(default=True, db_default=True)),
        migrations.CreateModel(
            name="Mention",
            fields=[
                ("pk", models.CompositePrimaryKey("tenant_id", "generation", "key", "block", blank=True, editable=False, primary_key=True, serialize=False)),
                ("tenant", models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to="auditlog.tenant")),
                ("generation", models.IntegerField()),
                ("key", models.TextField()),
                ("block", models.BigIntegerField()),
                ("kinds", models.SmallIntegerField()),
                ("first_at", models.DateTimeField()),
                ("last_at", models.DateTimeField()),
            ],
            options={"db_table": "projection_mention"},
        ),
        migrations.AddIndex(
            "event", models.Index(fields=["tenant", "generation", "through"], name="event_by_through", condition=models.Q(through__isnull=False))
        ),
        migrations.AddIndex(
            "event",
            models.Index(fields=["tenant", "generation", "payment_authority"], name="event_by_authority", condition=models.Q(("payment_authority", ""), _negated=True)),
        ),
        migrations.AddIndex(
            "event", models.Index(fields=["tenant", "generation", "resource"], name="event_by_resource", condition=models.Q(("resource", ""), _negated=True))
        ),
    ]
