"""Who is told of incidents, what of each they know, and what became of every message (sql/alerts.sql)."""

from importlib.resources import files

import auditlog.models.alerts
import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auditlog', '0027_incidents'),
    ]

    operations = [
        migrations.CreateModel(
            name='AlertChannel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=48, validators=[django.core.validators.RegexValidator('^[a-z0-9][a-z0-9._-]{0,47}\\Z', 'Use 1 to 48 of a-z, 0-9, dot, dash and underscore.')])),
                ('kind', models.CharField(choices=[('slack', 'Slack, or what takes the same'), ('pagerduty', 'PagerDuty (Events API v2)'), ('webhook', 'signed webhook (Standard Webhooks)'), ('mail', 'mail')], max_length=9)),
                ('address', models.CharField(blank=True, max_length=500)),
                ('secret_env', models.CharField(blank=True, max_length=120)),
                ('severity', models.CharField(choices=[('info', 'Info'), ('low', 'Low'), ('medium', 'Medium'), ('high', 'High'), ('critical', 'Critical')], default='high', max_length=8)),
                ('desks', models.JSONField(blank=True, default=list)),
                ('least_minor', models.BigIntegerField(blank=True, null=True)),
                ('currency', models.CharField(blank=True, max_length=12)),
                ('with_texts', models.BooleanField(default=False)),
                ('quiet_zone', models.CharField(blank=True, max_length=64)),
                ('quiet_from', models.TimeField(blank=True, null=True)),
                ('quiet_to', models.TimeField(blank=True, null=True)),
                ('quiet_days', models.JSONField(blank=True, default=list)),
                ('critical_passes', models.BooleanField(default=True)),
                ('escalate_minutes', models.IntegerField(blank=True, null=True)),
                ('allow_private', models.BooleanField(default=False)),
                ('state', models.CharField(choices=[('on', 'On'), ('off', 'Off')], default='on', max_length=3)),
                ('since', models.DateTimeField(editable=False)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('tested_at', models.DateTimeField(editable=False, null=True)),
                ('escalate_to', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='escalated', to='auditlog.alertchannel')),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'alert_channel',
            },
        ),
        migrations.CreateModel(
            name='Alert',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('kind', models.CharField(choices=[('news', 'News'), ('summary', 'summary after quiet hours'), ('acknowledged', 'taken up'), ('resolved', 'no longer open'), ('test', 'Test'), ('test_over', 'end of a test')], max_length=12)),
                ('key', models.CharField(default=auditlog.models.alerts.alert_key, max_length=64, unique=True)),
                ('news', models.JSONField(blank=True, default=list)),
                ('escalated_from', models.CharField(blank=True, max_length=48)),
                ('body', models.TextField(blank=True)),
                ('state', models.CharField(choices=[('waiting', 'to be sent'), ('held', 'held in quiet hours'), ('failed', 'failed, tried again later'), ('sent', 'sent'), ('summed', 'told in a summary'), ('dead', 'given up'), ('cancelled', 'no news any more')], default='waiting', max_length=9)),
                ('attempts', models.IntegerField(default=0)),
                ('created_at', models.DateTimeField()),
                ('due_at', models.DateTimeField(null=True)),
                ('tried_at', models.DateTimeField(null=True)),
                ('sent_at', models.DateTimeField(null=True)),
                ('answer', models.CharField(blank=True, max_length=300)),
                ('incident', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='alerts', to='auditlog.incident')),
                ('summary', models.ForeignKey(db_index=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='holds', to='auditlog.alert')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
                ('channel', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='alerts', to='auditlog.alertchannel')),
            ],
            options={
                'db_table': 'alert',
            },
        ),
        migrations.CreateModel(
            name='AlertLook',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('incident_id', models.BigIntegerField()),
                ('due_at', models.DateTimeField()),
                ('tenant', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'alert_look',
            },
        ),
        migrations.CreateModel(
            name='AlertTold',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('data', models.JSONField()),
                ('told_at', models.DateTimeField(null=True)),
                ('asked_at', models.DateTimeField(null=True)),
                ('is_taken', models.BooleanField(default=False)),
                ('escalated_at', models.DateTimeField(null=True)),
                ('channel', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='told', to='auditlog.alertchannel')),
                ('incident', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name='told', to='auditlog.incident')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'alert_told',
            },
        ),
        migrations.AddConstraint(
            model_name='alertchannel',
            constraint=models.UniqueConstraint(fields=('tenant', 'name'), name='alert_channel_once'),
        ),
        migrations.AddIndex(
            model_name='alert',
            index=models.Index(condition=models.Q(('state__in', ['waiting', 'failed', 'held'])), fields=['due_at'], name='alert_due'),
        ),
        migrations.AddIndex(
            model_name='alert',
            index=models.Index(fields=['channel', '-id'], name='alert_by_channel'),
        ),
        migrations.AddIndex(
            model_name='alert',
            index=models.Index(fields=['incident', 'channel'], name='alert_by_incident'),
        ),
        migrations.AddConstraint(
            model_name='alert',
            constraint=models.UniqueConstraint(condition=models.Q(('body', ''), ('kind', 'news'), ('news', []), ('state__in', ['waiting', 'held'])), fields=('channel', 'incident'), name='alert_waits_once'),
        ),
        migrations.AddIndex(
            model_name='alertlook',
            index=models.Index(fields=['due_at', 'id'], name='alert_look_next'),
        ),
        migrations.AddIndex(
            model_name='alerttold',
            index=models.Index(fields=['incident'], name='alert_told_of'),
        ),
        migrations.AddConstraint(
            model_name='alerttold',
            constraint=models.UniqueConstraint(fields=('channel', 'incident'), name='alert_told_once'),
        ),
        migrations.RunSQL((files("auditlog") / "sql" / "alerts.sql").read_text()),
    ]
