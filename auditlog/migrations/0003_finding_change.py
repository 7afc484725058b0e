from importlib.resources import files

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0002_append_only")]

    operations = [migrations.RunSQL((files("auditlog") / "sql" / "finding_change.sql").read_text())]
