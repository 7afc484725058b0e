"""The front door: what was tried, who people are elsewhere, links that are good once. Everybody signs in anew."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

ROLES = [
    ("admin", "Admin: configures everything"),
    ("security", "Security: investigates, triages findings"),
    ("finance", "Finance: spend, disputes"),
    ("abuse", "Abuse desk: sees its own provider's events only"),
    ("auditor", "Auditor: reads everything, changes nothing"),
]


class Migration(migrations.Migration):
    dependencies = [
        ("auditlog", "0023_rule_policies"),
        ("sessions", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Attempt",
            fields=[
                ("key", models.BinaryField(max_length=32, primary_key=True, serialize=False)),
                ("tries", models.IntegerField()),
                ("last_at", models.DateTimeField()),
                ("open_at", models.DateTimeField()),
            ],
            options={"db_table": "signin_attempt", "indexes": [models.Index(fields=["last_at"], name="signin_attempt_last")]},
        ),
        migrations.CreateModel(
            name="Identity",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("user_id", models.BigIntegerField()),
                ("issuer", models.CharField(max_length=300)),
                ("subject", models.CharField(max_length=300)),
                ("said_by", models.CharField(max_length=200)),
                ("at", models.DateTimeField()),
            ],
            options={
                "db_table": "person_identity",
                "indexes": [models.Index(fields=["issuer", "subject"], name="person_identity_by_subject")],
                "constraints": [models.UniqueConstraint(fields=("user_id", "issuer", "subject"), name="person_identity_once")],
            },
        ),
        migrations.CreateModel(
            name="OneTimeLink",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("kind", models.CharField(choices=[("invitation", "Invitation"), ("reset", "new password")], max_length=10)),
                ("digest", models.BinaryField(max_length=32, unique=True)),
                ("username", models.CharField(blank=True, max_length=150)),
                ("email", models.EmailField(blank=True, max_length=254)),
                ("role", models.CharField(blank=True, choices=ROLES, max_length=10)),
                ("provider", models.CharField(blank=True, max_length=120)),
                ("drops_factors", models.BooleanField(default=False)),
                ("made_by", models.CharField(max_length=200)),
                ("made_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auditlog.tenant")),
                ("user", models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name="+", to=settings.AUTH_USER_MODEL)),
            ],
            options={"db_table": "one_time_link"},
        ),
        # Django's own layout of a cache in the database (createcachetable).
        migrations.RunSQL(
            "CREATE TABLE answerable_cache (cache_key varchar(255) PRIMARY KEY, value text NOT NULL, expires timestamptz NOT NULL);"
            "CREATE INDEX answerable_cache_expires ON answerable_cache (expires);",
            "DROP TABLE answerable_cache",
        ),
        # Sessions of before say nothing of how somebody signed in.
        migrations.RunSQL("DELETE FROM django_session", migrations.RunSQL.noop),
    ]
