from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("disputes", "0006_bank_answer")]

    operations = [
        migrations.AddField("assessment", "grounds", models.JSONField(null=True)),
        migrations.AddField("assessment", "words", models.CharField(blank=True, max_length=64, default=""), preserve_default=False),
    ]  # fmt: skip
