"""Nothing reads who signed a statement of a limit: whether it counts was decided when it was folded."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0004_books_of_money")]

    operations = [migrations.RemoveField("limitstatement", "signer")]
