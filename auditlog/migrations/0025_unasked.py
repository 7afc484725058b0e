import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auditlog', '0024_front_door'),
    ]

    operations = [
        migrations.CreateModel(
            name='Unasked',
            fields=[
                ('pk', models.CompositePrimaryKey('tenant_id', 'generation', 'leaf_index', blank=True, editable=False, primary_key=True, serialize=False)),
                ('generation', models.IntegerField()),
                ('leaf_index', models.BigIntegerField()),
                ('kind', models.UUIDField()),
                ('at', models.DateTimeField()),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'projection_unasked',
                'indexes': [models.Index(fields=['tenant', 'generation', 'kind', 'at', 'leaf_index'], name='unasked_in_time')],
            },
        ),
        migrations.RunSQL("UPDATE projection_state SET detected = 0", migrations.RunSQL.noop),
    ]
