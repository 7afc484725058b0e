"""Who may say what is looked at more closely (revocations, acts at other providers): every generation is folded anew."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0005_limit_signer")]

    operations = [
        migrations.RunSQL("UPDATE projection_state SET is_stale = true WHERE position > 0", migrations.RunSQL.noop),
    ]
