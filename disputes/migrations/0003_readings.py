from django.db import migrations, models


class Migration(migrations.Migration):
    """Verdicts know how far the record had come; what a case reads before it is assessed is kept."""

    dependencies = [("disputes", "0002_written_once"), ("auditlog", "0004_books_of_money")]

    operations = [
        migrations.AddField("assessment", "position", models.BigIntegerField(default=0)),
        migrations.CreateModel(
            "Reading",
            [
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("at", models.DateTimeField()),
                ("engine", models.CharField(max_length=40)),
                ("policy_version", models.CharField(max_length=20)),
                ("verdicts", models.JSONField()),
                ("digest", models.CharField(max_length=64)),
                ("position", models.BigIntegerField()),
                ("case", models.OneToOneField(db_constraint=False, on_delete=models.PROTECT, related_name="reading", to="disputes.case")),
                ("tenant", models.ForeignKey(db_index=False, on_delete=models.PROTECT, to="auditlog.tenant")),
            ],
            options={"db_table": "dispute_reading"},
        ),
    ]
