"""What is spent by the hour, for rules about how fast somebody spends (sql/rates.sql); detection looks at the record again, since
the ties of calls and refused attempts to pay are others now.
"""

from importlib.resources import files

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0018_names_as_rows")]

    operations = [
        migrations.CreateModel(
            name="Rate",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id", "generation", "principal", "actor", "provider", "currency", "hour",
                        blank=True, editable=False, primary_key=True, serialize=False,
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
                ("generation", models.IntegerField()),
                ("principal", models.TextField()),
                ("actor", models.TextField()),
                ("provider", models.TextField()),
                ("currency", models.CharField(max_length=3)),
                ("hour", models.DateTimeField()),
                ("gross", models.DecimalField(decimal_places=15, max_digits=40)),
                ("lines", models.BigIntegerField()),
            ],
            options={"db_table": "projection_rate"},
        ),
        migrations.RunSQL((files("auditlog") / "sql" / "rates.sql").read_text()),
        # Detection writes the ties of an act when it first looks at it.
        migrations.RunSQL("DELETE FROM projection_tie; UPDATE projection_state SET detected = 0"),
    ]  # fmt: skip
