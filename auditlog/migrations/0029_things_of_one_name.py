import django.contrib.postgres.fields
from django.db import migrations, models

# What was attributed before stays as it is until the next `rebuild`; from here on, lines are told apart.
_SAID = """
UPDATE projection_holding h SET accounts = ARRAY[h.account] WHERE h.account <> '';
UPDATE projection_holding h SET accounts = coalesce((
    SELECT (array_agg(DISTINCT e.account ORDER BY e.account))[:4] FROM projection_event e
    WHERE e.tenant_id = h.tenant_id AND e.generation = h.generation AND e.provider = h.provider AND e.target = h.id AND e.account <> ''
      AND e.type IN ('project.created', 'resource.provisioned', 'domain.registered', 'subscription.started', 'credential.issued')
      AND e.outcome = 'success' AND e.environment = 'live'), h.accounts)
WHERE h.last_made_at > h.made_at AND h.kind <> 'account';
"""


class Migration(migrations.Migration):

    dependencies = [
        ('auditlog', '0028_alerts'),
    ]

    operations = [
        migrations.AddField(
            model_name='holding',
            name='accounts',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), db_default=[], default=list, size=None),
        ),
        migrations.RunSQL(_SAID, migrations.RunSQL.noop),
    ]
