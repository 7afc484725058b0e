"""Shared secrets, sealed under a key that is not in the database."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0012_security_log")]

    operations = [
        migrations.CreateModel(
            name="SealedSecret",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=120)),
                ("box", models.BinaryField()),
                ("key_id", models.CharField(max_length=12)),
                ("changed_at", models.DateTimeField()),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auditlog.tenant")),
            ],
            options={"db_table": "sealed_secret"},
        ),
        migrations.AddConstraint("sealedsecret", models.UniqueConstraint(fields=("tenant", "name"), name="sealed_secret_once")),
    ]
