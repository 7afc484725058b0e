"""A charge may be part of a payment at its rail (a payment intent, an authorization): events are found by it.

Statements folded before know none, so every generation is marked stale: the service rebuilds it from the ledger.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0006_remit")]

    operations = [
        migrations.AddField("event", "payment", models.TextField(default="", db_default="")),
        migrations.AddIndex(
            "event",
            models.Index(
                fields=["tenant", "generation", "payment", "leaf_index"], name="event_by_payment",
                condition=models.Q(("payment", ""), _negated=True),
            ),
        ),
        migrations.RunSQL("UPDATE projection_state SET is_stale = true WHERE position > 0", migrations.RunSQL.noop),
    ]
