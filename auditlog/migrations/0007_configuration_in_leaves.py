"""Configuration stands in leaves, whatever path it is changed by; tokens have an owner, an issuer and a last use."""

from importlib.resources import files

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("auditlog", "0006_own_leaves"),
        ("auth", "0012_alter_user_first_name_max_length"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField("membership", "changes_seen", models.BigIntegerField(default=0, editable=False)),
        migrations.AddField(
            "apitoken",
            "owner",
            models.ForeignKey(
                help_text="The person in whose name it acts.", null=True, on_delete=django.db.models.deletion.CASCADE,
                related_name="tokens", to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddField(
            "apitoken",
            "issued_by",
            models.ForeignKey(
                db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name="+", to=settings.AUTH_USER_MODEL
            ),
        ),
        migrations.AddField("apitoken", "last_used_at", models.DateTimeField(editable=False, null=True)),
        migrations.RunSQL((files("auditlog") / "sql" / "configuration.sql").read_text()),
    ]
