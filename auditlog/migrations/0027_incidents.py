"""Incidents: findings of one cause, as people own and close them (sql/incidents.sql says when they are looked at)."""

from importlib.resources import files

import auditlog.models.fields
import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auditlog', '0026_one_way_to_configure'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='IncidentNumber',
            fields=[
                ('tenant', models.OneToOneField(on_delete=django.db.models.deletion.PROTECT, primary_key=True, serialize=False, to='auditlog.tenant')),
                ('last', models.BigIntegerField(default=0)),
            ],
            options={
                'db_table': 'incident_number',
            },
        ),
        migrations.CreateModel(
            name='Incident',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('number', models.BigIntegerField()),
                ('ref', models.CharField(max_length=20)),
                ('state', models.CharField(choices=[('open', 'Open'), ('resolved', 'Resolved'), ('closed', 'Closed'), ('withdrawn', 'Withdrawn'), ('merged', 'Merged')], default='open', max_length=9)),
                ('outcome', models.CharField(blank=True, choices=[('stopped', 'stopped and undone as far as it goes'), ('refunded', 'the money came back'), ('accepted', 'accepted: nothing more is done'), ('false_alarm', 'a false alarm'), ('other', 'something else')], max_length=11)),
                ('opened_at', models.DateTimeField()),
                ('changed_at', models.DateTimeField()),
                ('owner', models.CharField(blank=True, max_length=150)),
                ('owner_id', models.BigIntegerField(null=True)),
                ('severity', models.CharField(choices=[('info', 'Info'), ('low', 'Low'), ('medium', 'Medium'), ('high', 'High'), ('critical', 'Critical')], default='info', max_length=8)),
                ('rank', models.SmallIntegerField(default=0)),
                ('principal', models.TextField(blank=True)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('findings', models.IntegerField(default=0)),
                ('members', models.BigIntegerField(default=0)),
                ('over_minor', auditlog.models.fields.WholeNumber(decimal_places=0, default=0, max_digits=60)),
                ('undo_until', models.DateTimeField(null=True)),
                ('closed_members', models.BigIntegerField(null=True)),
                ('is_by_hand', models.BooleanField(default=False)),
                ('merged_into', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='merged', to='auditlog.incident')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'incident',
            },
        ),
        migrations.CreateModel(
            name='IncidentDirty',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('finding_id', models.BigIntegerField(null=True)),
                ('incident_id', models.BigIntegerField(null=True)),
                ('due_at', models.DateTimeField()),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'incident_dirty',
            },
        ),
        migrations.CreateModel(
            name='IncidentFinding',
            fields=[
                ('finding', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='place_in_incident', serialize=False, to='auditlog.finding')),
                ('stands', models.BooleanField()),
                ('is_sum', models.BooleanField()),
                ('links', django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=33), size=None)),
                ('leaves', models.UUIDField()),
                ('named', models.IntegerField()),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('undo_until', models.DateTimeField(null=True)),
                ('incident', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='places', to='auditlog.incident')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'incident_finding',
            },
        ),
        migrations.CreateModel(
            name='IncidentLink',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('link', models.CharField(max_length=33)),
                ('first_at', models.DateTimeField()),
                ('last_at', models.DateTimeField()),
                ('finding', models.ForeignKey(db_constraint=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='auditlog.finding')),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'incident_link',
            },
        ),
        migrations.CreateModel(
            name='IncidentStep',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('at', models.DateTimeField()),
                ('kind', models.CharField(choices=[('opened', 'Opened'), ('grew', 'Grew'), ('merged', 'Merged'), ('took_in', 'took in another'), ('split', 'split off'), ('withdrawn', 'Withdrawn'), ('resolved', 'Resolved'), ('reopened', 'Reopened'), ('assigned', 'Assigned'), ('note', 'Note'), ('closed', 'Closed')], max_length=9)),
                ('by', models.CharField(blank=True, max_length=150)),
                ('person', models.CharField(blank=True, max_length=170)),
                ('role', models.CharField(blank=True, max_length=10)),
                ('desk', models.CharField(blank=True, max_length=120)),
                ('reason', models.TextField(blank=True)),
                ('data', models.JSONField(default=dict)),
                ('incident', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='steps', to='auditlog.incident')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='auditlog.tenant')),
                ('user', models.ForeignKey(db_constraint=False, db_index=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'db_table': 'incident_step',
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='IncidentHand',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('together', 'Together'), ('apart', 'Apart')], max_length=8)),
                ('one', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                ('other', django.contrib.postgres.fields.ArrayField(base_field=models.BigIntegerField(), size=None)),
                ('is_lifted', models.BooleanField(default=False)),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, to='auditlog.tenant')),
                ('step', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='+', to='auditlog.incidentstep')),
            ],
            options={
                'db_table': 'incident_hand',
            },
        ),
        migrations.AddIndex(
            model_name='incident',
            index=models.Index(fields=['tenant', 'state', '-number'], name='incident_by_state'),
        ),
        migrations.AddIndex(
            model_name='incident',
            index=models.Index(fields=['tenant', 'principal', '-number'], name='incident_by_principal'),
        ),
        migrations.AddIndex(
            model_name='incident',
            index=models.Index(condition=models.Q(('merged_into__isnull', False)), fields=['merged_into'], name='incident_merged'),
        ),
        migrations.AddConstraint(
            model_name='incident',
            constraint=models.UniqueConstraint(fields=('tenant', 'number'), name='incident_number_once'),
        ),
        migrations.AddConstraint(
            model_name='incident',
            constraint=models.UniqueConstraint(fields=('tenant', 'ref'), name='incident_ref_once'),
        ),
        migrations.AddIndex(
            model_name='incidentdirty',
            index=models.Index(fields=['tenant', 'due_at', 'id'], name='incident_dirty_next'),
        ),
        migrations.AddIndex(
            model_name='incidentfinding',
            index=models.Index(fields=['tenant', 'incident'], name='incident_findings'),
        ),
        migrations.AddIndex(
            model_name='incidentlink',
            index=models.Index(fields=['tenant', 'link', 'first_at'], name='incident_link_in_time'),
        ),
        migrations.AddIndex(
            model_name='incidentstep',
            index=models.Index(fields=['incident', 'id'], name='incident_steps'),
        ),
        migrations.AddIndex(
            model_name='incidenthand',
            index=models.Index(condition=models.Q(('is_lifted', False)), fields=['tenant'], name='incident_hands'),
        ),
        migrations.RunSQL((files("auditlog") / "sql" / "incidents.sql").read_text()),
    ]
