from importlib.resources import files

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0001_initial")]

    operations = [migrations.RunSQL((files("auditlog") / "sql" / "append_only.sql").read_text())]
