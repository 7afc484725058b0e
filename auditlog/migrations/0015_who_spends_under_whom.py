from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0014_balances_and_ties")]

    operations = [
        migrations.AddIndex(
            "balance",
            models.Index(
                fields=["tenant", "generation", "actor"], name="balance_by_actor", condition=models.Q(level="ever")
            ),
        ),
        migrations.AddIndex(
            "balance",
            models.Index(
                fields=["tenant", "generation", "grant"], name="balance_by_grant", condition=models.Q(level="ever")
            ),
        ),
        migrations.AddIndex(
            "charge",
            models.Index(
                fields=["tenant", "generation", "authority"],
                name="charge_by_authority",
                condition=~models.Q(authority=""),
            ),
        ),
    ]
