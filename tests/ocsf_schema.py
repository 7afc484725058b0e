"""OCSF 1.7.0's own schema as the library `ocsf-json-schema` carries it: what is required, which fields there are at all,
of what type, in what range, of which enumeration. It is checked by `jsonschema`, offline.
"""

from functools import lru_cache

from jsonschema import Draft202012Validator
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema


@lru_cache(maxsize=1)
def published() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema(version="1.7.0"))


@lru_cache(maxsize=20)
def validator(class_uid: int) -> Draft202012Validator:
    schema = published().get_class_schema(published().lookup_class_name_from_uid(class_uid))
    assert schema["additionalProperties"] is False  # a field that OCSF does not know would be found
    return Draft202012Validator(schema)


def problems(written: dict) -> list[str]:
    """What the schema has against an object; then what it says in words only: names that belong to numbers."""
    found = [
        f"{'.'.join(map(str, e.absolute_path))}: {e.message[:200]}"
        for e in validator(written["class_uid"]).iter_errors(written)
    ]
    name = published().lookup_class_name_from_uid(written["class_uid"])
    described = published().schema.schema["classes"][name]
    captions = {"class_name": described["caption"], "category_name": described["category_name"]}
    for number, word in (
        ("activity_id", "activity_name"),
        ("status_id", "status"),
        ("severity_id", "severity"),
        ("type_uid", "type_name"),
    ):
        if number in written and (number == "type_uid" or written[number] != 99):
            captions[word] = described["attributes"][number]["enum"].get(str(written[number]), {}).get("caption")
    found += [
        f"{field}: expected {expected!r}, found {written.get(field)!r}"
        for field, expected in captions.items()
        if written.get(field) != expected
    ]
    if written["type_uid"] != written["class_uid"] * 100 + written["activity_id"]:
        found.append("type_uid: is not class and activity")
    return found
