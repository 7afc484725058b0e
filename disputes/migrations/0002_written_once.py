from importlib.resources import files

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("disputes", "0001_initial"), ("auditlog", "0002_append_only")]

    operations = [migrations.RunSQL((files("disputes") / "sql" / "written_once.sql").read_text())]
