"""The leaves that the service writes itself are found by kind: who asks what erased a payload reads no event."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0007_payment_of_a_charge")]

    operations = [
        migrations.AddIndex(
            "leaf",
            models.Index(fields=["tenant", "epoch", "kind", "leaf_index"], condition=models.Q(event_id=None), name="leaf_own"),
        )
    ]
