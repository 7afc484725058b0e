"""Fields of our own."""

from django.db import models


class WholeNumber(models.DecimalField):
    """An integer without end: sums of amounts, each of which may be as large as a bigint, never overflow."""

    def __init__(self, *args, **options) -> None:
        super().__init__(*args, **options | {"max_digits": 60, "decimal_places": 0})

    def from_db_value(self, value, expression, connection) -> int | None:
        return None if value is None else int(value)
