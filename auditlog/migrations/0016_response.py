"""Who is told to stop an agent, what was stopped, and what became of each signal."""

import uuid
from importlib.resources import files

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("auditlog", "0015_who_spends_under_whom"),
    ]

    operations = [
        migrations.CreateModel(
            name="Receiver",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=48,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9._-]{0,47}\\Z", "Use 1 to 48 of a-z, 0-9, dot, dash and underscore."
                            )
                        ],
                    ),
                ),
                (
                    "kind",
                    models.CharField(
                        choices=[
                            ("push", "SSF push (RFC 8935)"),
                            ("poll", "SSF poll (RFC 8936)"),
                            ("webhook", "signed webhook (Standard Webhooks)"),
                            ("revocation", "token revocation (RFC 7009)"),
                            ("stripe", "Stripe API"),
                            ("cloudflare", "Cloudflare API"),
                        ],
                        max_length=10,
                    ),
                ),
                ("stream", models.UUIDField(default=uuid.uuid4, editable=False, unique=True)),
                (
                    "url",
                    models.CharField(
                        blank=True, help_text="Where it is called, by https. A poll receiver calls us.", max_length=500
                    ),
                ),
                (
                    "audience",
                    models.CharField(blank=True, help_text="`aud` of its signals (RFC 8417).", max_length=300),
                ),
                (
                    "provider",
                    models.CharField(
                        blank=True, help_text="What it can stop: the provider's name. Empty: anything.", max_length=120
                    ),
                ),
                (
                    "issuer",
                    models.CharField(
                        blank=True,
                        help_text="What it can stop: subjects of this issuer. Empty: anyone's.",
                        max_length=300,
                    ),
                ),
                (
                    "account",
                    models.CharField(
                        blank=True, help_text="The account at the provider, where its API asks for one.", max_length=120
                    ),
                ),
                (
                    "secret_env",
                    models.CharField(
                        blank=True,
                        help_text="Name of the secret: an `Authorization` value, a signing secret or an API key.",
                        max_length=120,
                    ),
                ),
                ("events", models.JSONField(blank=True, default=list)),
                (
                    "allow_private",
                    models.BooleanField(default=False, help_text="The address may be a private or loopback one."),
                ),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("enabled", "Enabled"),
                            ("paused", "paused: signals wait"),
                            ("disabled", "disabled: nothing is sent"),
                        ],
                        default="enabled",
                        max_length=8,
                    ),
                ),
                ("description", models.CharField(blank=True, max_length=300)),
                ("token_digest", models.BinaryField(null=True)),
                ("made_by", models.CharField(blank=True, max_length=200)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("tested_at", models.DateTimeField(editable=False, null=True)),
                ("verified_at", models.DateTimeField(editable=False, null=True)),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auditlog.tenant")),
            ],
            options={
                "db_table": "response_receiver",
            },
        ),
        migrations.CreateModel(
            name="ResponsePolicy",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        max_length=48,
                        validators=[
                            django.core.validators.RegexValidator(
                                "^[a-z0-9][a-z0-9._-]{0,47}\\Z", "Use 1 to 48 of a-z, 0-9, dot, dash and underscore."
                            )
                        ],
                    ),
                ),
                ("rule", models.CharField(max_length=80)),
                ("severity", models.CharField(default="high", max_length=8)),
                ("minimum_minor", models.BigIntegerField(blank=True, null=True)),
                ("currency", models.CharField(blank=True, max_length=12)),
                ("subject", models.CharField(default="grant", max_length=8)),
                (
                    "mode",
                    models.CharField(
                        choices=[("off", "Off"), ("dry_run", "dry run"), ("live", "Live")],
                        default="dry_run",
                        max_length=7,
                    ),
                ),
                ("asked_person", models.CharField(blank=True, max_length=400)),
                ("asked_who", models.CharField(blank=True, max_length=200)),
                ("since", models.DateTimeField(editable=False, null=True)),
                ("would", models.JSONField(blank=True, default=list)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auditlog.tenant")),
            ],
            options={
                "db_table": "response_policy",
            },
        ),
        migrations.CreateModel(
            name="Stop",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.IntegerField()),
                ("kind", models.CharField(max_length=8)),
                ("key", models.CharField(max_length=700)),
                ("reason", models.TextField()),
                ("is_drill", models.BooleanField(default=False)),
                ("finding_id", models.BigIntegerField(null=True)),
                ("policy_id", models.BigIntegerField(null=True)),
                ("who", models.CharField(max_length=200)),
                ("person", models.CharField(max_length=400)),
                ("at", models.DateTimeField()),
                (
                    "state",
                    models.CharField(
                        choices=[("in_force", "in force"), ("lifted", "Lifted")], default="in_force", max_length=8
                    ),
                ),
                ("lift_person", models.CharField(blank=True, max_length=400)),
                ("lift_who", models.CharField(blank=True, max_length=200)),
                ("lift_reason", models.TextField(blank=True)),
                ("lift_at", models.DateTimeField(null=True)),
                ("lifted_person", models.CharField(blank=True, max_length=400)),
                ("lifted_who", models.CharField(blank=True, max_length=200)),
                ("lifted_at", models.DateTimeField(null=True)),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="auditlog.tenant")),
            ],
            options={
                "db_table": "response_stop",
            },
        ),
        migrations.CreateModel(
            name="Signal",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("jti", models.CharField(max_length=64, unique=True)),
                ("what", models.CharField(max_length=160)),
                ("body", models.TextField()),
                (
                    "state",
                    models.CharField(
                        choices=[
                            ("waiting", "to be sent"),
                            ("sent", "sent, not yet confirmed"),
                            ("accepted", "Accepted"),
                            ("failed", "failed, tried again later"),
                            ("dead", "given up: nobody answered"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="waiting",
                        max_length=9,
                    ),
                ),
                ("attempts", models.IntegerField(default=0)),
                ("created_at", models.DateTimeField()),
                ("due_at", models.DateTimeField(null=True)),
                ("sent_at", models.DateTimeField(null=True)),
                ("accepted_at", models.DateTimeField(null=True)),
                ("error", models.CharField(blank=True, max_length=500)),
                (
                    "receiver",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="signals", to="auditlog.receiver"
                    ),
                ),
                ("tenant", models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, to="auditlog.tenant")),
                (
                    "stop",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="signals",
                        to="auditlog.stop",
                    ),
                ),
            ],
            options={
                "db_table": "response_signal",
            },
        ),
        migrations.AddConstraint(
            model_name="receiver",
            constraint=models.UniqueConstraint(fields=("tenant", "name"), name="receiver_once"),
        ),
        migrations.AddConstraint(
            model_name="responsepolicy",
            constraint=models.UniqueConstraint(fields=("tenant", "name"), name="response_policy_once"),
        ),
        migrations.AddIndex(
            model_name="stop",
            index=models.Index(fields=["tenant", "kind", "key"], name="stop_by_subject"),
        ),
        migrations.AddConstraint(
            model_name="stop",
            constraint=models.UniqueConstraint(fields=("tenant", "number"), name="stop_number_once"),
        ),
        migrations.AddConstraint(
            model_name="stop",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("lifted_at", None),
                    models.Q(
                        ("lift_at__isnull", False),
                        models.Q(("lift_person", ""), _negated=True),
                        models.Q(("lifted_person", models.F("lift_person")), _negated=True),
                    ),
                    _connector="OR",
                ),
                name="stop_lifted_by_two",
            ),
        ),
        migrations.AddIndex(
            model_name="signal",
            index=models.Index(
                condition=models.Q(("state__in", ["waiting", "failed"])), fields=["due_at"], name="signal_due"
            ),
        ),
        migrations.AddIndex(
            model_name="signal",
            index=models.Index(fields=["receiver", "state", "id"], name="signal_by_receiver"),
        ),
        migrations.RunSQL((files("auditlog") / "sql" / "response.sql").read_text()),
    ]
