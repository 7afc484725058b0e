from django.apps import AppConfig


class AuditlogConfig(AppConfig):
    name = "auditlog"

    def ready(self) -> None:
        from auditlog.api import problems  # noqa: F401  registers itself
