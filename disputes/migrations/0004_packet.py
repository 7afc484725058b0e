"""Where the packet of a case that was taken out last stands in the log."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("disputes", "0003_readings"),
    ]

    operations = [
        migrations.AddField(
            model_name="case",
            name="packet_at",
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name="case",
            name="packet_digest",
            field=models.CharField(blank=True, max_length=64),
        ),
        migrations.AddField(
            model_name="case",
            name="packet_leaf",
            field=models.BigIntegerField(null=True),
        ),
    ]
