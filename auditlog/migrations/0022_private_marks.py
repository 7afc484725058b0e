"""A mark that an abuse desk is not told of."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('auditlog', '0021_bills'),
    ]

    operations = [
        migrations.AddField(
            model_name='ownedname',
            name='is_private',
            field=models.BooleanField(db_default=False, default=False, help_text='An abuse desk that reads what was found of it is told neither the mark nor whose it is.', verbose_name='private'),
        ),
    ]
