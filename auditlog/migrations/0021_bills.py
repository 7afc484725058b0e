"""Bills that are imported, their lines, what those were found to be, and closed months."""


import django.contrib.postgres.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auditlog', '0020_rates'),
    ]

    operations = [
        migrations.CreateModel(
            name='Bill',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.IntegerField()),
                ('format', models.CharField(max_length=16)),
                ('provider', models.CharField(blank=True, max_length=120)),
                ('file_name', models.CharField(max_length=200)),
                ('sha256', models.CharField(max_length=64)),
                ('raw', models.BinaryField()),
                ('grade', models.CharField(default='F', max_length=1)),
                ('importer', models.CharField(max_length=200)),
                ('imported_at', models.DateTimeField()),
                ('leaf_index', models.BigIntegerField()),
                ('lines', models.IntegerField()),
                ('new_lines', models.IntegerField()),
                ('changed_lines', models.IntegerField()),
                ('begins', models.DateTimeField()),
                ('ends', models.DateTimeField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'bill',
            },
        ),
        migrations.CreateModel(
            name='BillLine',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('key', models.CharField(max_length=64)),
                ('said', models.CharField(max_length=64)),
                ('position', models.IntegerField()),
                ('at', models.DateTimeField()),
                ('until', models.DateTimeField()),
                ('amount', models.DecimalField(decimal_places=20, max_digits=45)),
                ('currency', models.CharField(max_length=3)),
                ('kind', models.CharField(max_length=10)),
                ('provider', models.TextField()),
                ('account', models.TextField()),
                ('resource', models.TextField()),
                ('service', models.TextField()),
                ('operation', models.TextField()),
                ('invoice', models.TextField()),
                ('agent', models.TextField()),
                ('api_key', models.TextField()),
                ('refs', django.contrib.postgres.fields.ArrayField(base_field=models.TextField(), size=None)),
                ('description', models.TextField()),
                ('state', models.CharField(blank=True, choices=[('matched', 'Matched'), ('differs', 'matched, at another price'), ('unexplained', 'Unexplained'), ('apart', 'tax, credit, fee or rounding')], max_length=11)),
                ('reason', models.TextField(blank=True)),
                ('difference', models.DecimalField(decimal_places=20, default=0, max_digits=45)),
                ('bill', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='of_it', to='auditlog.bill')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'bill_line',
            },
        ),
        migrations.CreateModel(
            name='BillMapping',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(blank=True, max_length=120)),
                ('columns', models.JSONField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'bill_mapping',
            },
        ),
        migrations.CreateModel(
            name='BillShare',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('lead', models.UUIDField()),
                ('amount', models.DecimalField(decimal_places=20, max_digits=45)),
                ('agent', models.TextField()),
                ('principal', models.TextField()),
                ('line', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='shares', to='auditlog.billline')),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'bill_share',
            },
        ),
        migrations.CreateModel(
            name='Statement',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('month', models.DateField()),
                ('body', models.JSONField()),
                ('signed', models.TextField()),
                ('closed_at', models.DateTimeField()),
                ('closed_by', models.CharField(max_length=200)),
                ('leaf_index', models.BigIntegerField()),
                ('tenant', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'bill_statement',
            },
        ),
        migrations.CreateModel(
            name='Unbilled',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.TextField()),
                ('lead', models.UUIDField()),
                ('leaf_index', models.BigIntegerField()),
                ('at', models.DateTimeField()),
                ('amount', models.DecimalField(decimal_places=20, max_digits=45)),
                ('currency', models.CharField(max_length=3)),
                ('agent', models.TextField()),
                ('principal', models.TextField()),
                ('has_act', models.BooleanField()),
                ('tenant', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, to='auditlog.tenant')),
            ],
            options={
                'db_table': 'bill_missing',
            },
        ),
        migrations.AddConstraint(
            model_name='bill',
            constraint=models.UniqueConstraint(fields=('tenant', 'number'), name='bill_number_once'),
        ),
        migrations.AddIndex(
            model_name='billline',
            index=models.Index(fields=['tenant', 'provider', 'at'], name='bill_line_in_time'),
        ),
        migrations.AddIndex(
            model_name='billline',
            index=models.Index(fields=['bill', 'state', 'position'], name='bill_line_by_state'),
        ),
        migrations.AddConstraint(
            model_name='billline',
            constraint=models.UniqueConstraint(fields=('tenant', 'key'), name='bill_line_once'),
        ),
        migrations.AddConstraint(
            model_name='billmapping',
            constraint=models.UniqueConstraint(fields=('tenant', 'provider'), name='bill_mapping_once'),
        ),
        migrations.AddIndex(
            model_name='billshare',
            index=models.Index(fields=['tenant', 'lead'], name='bill_share_by_event'),
        ),
        migrations.AddConstraint(
            model_name='statement',
            constraint=models.UniqueConstraint(fields=('tenant', 'month'), name='statement_once'),
        ),
        migrations.AddIndex(
            model_name='unbilled',
            index=models.Index(fields=['tenant', 'provider', 'at'], name='unbilled_in_time'),
        ),
    ]
