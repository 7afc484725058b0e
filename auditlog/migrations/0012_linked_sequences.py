"""Statements of a stream may name the one before them, or begin it anew.

Digest files that were folded before told neither, so every generation is marked stale: the service rebuilds it from the ledger.
"""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0011_mentions_of_parties")]

    operations = [
        migrations.AddField("sequencerun", "is_linked", models.BooleanField(default=False, db_default=False)),
        migrations.AddField("sequencerun", "begins", models.BooleanField(default=False, db_default=False)),
        migrations.RunSQL("UPDATE projection_state SET is_stale = true WHERE position > 0", migrations.RunSQL.noop),
    ]
