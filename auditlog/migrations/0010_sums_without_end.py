"""What is at risk is a sum of amounts: it has no largest value."""

from django.db import migrations

from auditlog.models.fields import WholeNumber


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0009_triage_outlives_accounts")]

    operations = [migrations.AlterField("finding", "money_at_risk_minor", WholeNumber(null=True))]
