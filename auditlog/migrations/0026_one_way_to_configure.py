"""The application role changes configuration by one function that names a person; leaves state private names."""

from importlib.resources import files

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0025_unasked")]

    operations = [migrations.RunSQL((files("auditlog") / "sql" / "configure.sql").read_text())]
