"""Names and other things that were set up, as rows of their own; what is found of them is judged anew."""

import django.db.models.deletion
from django.db import migrations, models

from auditlog.models.fields import WholeNumber


class Migration(migrations.Migration):

    dependencies = [
        ('auditlog', '0017_members_of_the_road'),
    ]

    operations = [
        migrations.CreateModel(
            name='NameRow',
            fields=[
                ('pk', models.CompositePrimaryKey('tenant_id', 'generation', 'leaf_index', blank=True, editable=False, primary_key=True, serialize=False)),
                ('generation', models.IntegerField()),
                ('leaf_index', models.BigIntegerField()),
                ('event_id', models.UUIDField()),
                ('at', models.DateTimeField()),
                ('what', models.TextField()),
                ('name', models.TextField()),
                ('label', models.TextField()),
                ('brand', models.TextField()),
                ('principal', models.TextField()),
                ('actor', models.TextField()),
                ('jkt', models.TextField()),
                ('grant', models.TextField()),
                ('provider', models.TextField()),
                ('amount_minor', WholeNumber(decimal_places=0, max_digits=60, null=True)),
                ('currency', models.TextField()),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'projection_name',
                'indexes': [models.Index(fields=['tenant', 'generation', 'what', 'principal', 'at'], name='name_of_principal'), models.Index(fields=['tenant', 'generation', 'what', 'actor', 'at'], name='name_of_actor'), models.Index(condition=models.Q(('jkt', ''), _negated=True), fields=['tenant', 'generation', 'what', 'jkt', 'at'], name='name_of_key')],
            },
        ),
        migrations.RunSQL("UPDATE projection_state SET detected = 0", migrations.RunSQL.noop),
    ]
