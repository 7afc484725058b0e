"""What the road itself saw rests on leaves that are no events: its members name none."""

from django.db import migrations, models

_OF_THE_ROAD = "rule LIKE 'integrity.%' AND rule <> 'integrity.sources_disagree'"


class Migration(migrations.Migration):
    dependencies = [("auditlog", "0016_response")]

    operations = [
        migrations.AlterField("findingmember", "event_id", models.UUIDField(null=True)),
        migrations.RunSQL(
            f"DELETE FROM finding_member m USING finding f WHERE f.id = m.finding_id AND f.tenant_id = m.tenant_id AND {_OF_THE_ROAD};"
            " INSERT INTO finding_member (tenant_id, finding_id, leaf_index, place)"
            " SELECT DISTINCT ON (f.id, m.leaf) f.tenant_id, f.id, m.leaf, m.place - 1 FROM finding f"
            f" CROSS JOIN LATERAL unnest(f.leaves) WITH ORDINALITY AS m(leaf, place) WHERE {_OF_THE_ROAD} AND m.leaf IS NOT NULL"
            " ORDER BY f.id, m.leaf, m.place;"
            f" UPDATE finding SET events_total = cardinality(event_ids) WHERE {_OF_THE_ROAD}",
            migrations.RunSQL.noop,
        ),
    ]
