"""How far the background check of each log has come."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0007_configuration_in_leaves")]

    operations = [
        migrations.CreateModel(
            "Watch",
            [
                (
                    "tenant",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE, primary_key=True, serialize=False, to="auditlog.tenant"
                    ),
                ),
                ("position", models.BigIntegerField(default=0)),
                ("at", models.DateTimeField()),
            ],
            options={"db_table": "watch"},
        )
    ]
