"""A security log for each tenant, and its stream into a SIEM."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0012_linked_sequences")]

    operations = [
        migrations.CreateModel(
            name="SecurityLog",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("log", models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="auditlog.tenant")),
                ("tenant", models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="auditlog.tenant")),
            ],
            options={"db_table": "security_log"},
        ),
        migrations.AlterField(
            "exportstream", "what",
            models.CharField(choices=[("events", "Events"), ("findings", "Findings"), ("cases", "Cases"), ("security", "Security")], max_length=8),
        ),
        migrations.AlterField(
            "export", "what",
            models.CharField(
                choices=[
                    ("events", "Events"), ("findings", "Findings"), ("cases", "Cases"), ("security", "security log"), ("both", "events and findings"),
                    ("all", "events, findings and cases"),
                ],
                default="both", max_length=8,
            ),
        ),
        migrations.AlterField(
            "leaf", "kind",
            models.SmallIntegerField(
                choices=[
                    (0, "event"), (1, "key"), (2, "conflict"), (3, "tombstone"), (4, "hold"), (5, "release"), (6, "config"), (7, "case"), (8, "security"),
                ]
            ),
        ),
    ]
