"""Pivot: spend by two of its keys as a table, in one currency, largest first; the long tail is one row and one column."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MOST_ROWS, MOST_COLUMNS = 40, 8
REST = None  # the key of all that is left over


@dataclass(frozen=True, slots=True)
class Cell:
    """Amounts in minor units. `at_most` is more where two statements are perhaps of the same money."""

    spent: int = 0
    at_most: int = 0
    charges: int = 0

    def __add__(self, other: "Cell") -> "Cell":
        return Cell(self.spent + other.spent, self.at_most + other.at_most, self.charges + other.charges)


@dataclass(frozen=True, slots=True)
class Pivot:
    """`rows` and `columns` are keys in the order to show them, REST last; a cell that is not there is nothing."""

    currency: str
    rows: tuple[str | None, ...]
    columns: tuple[str | None, ...]
    cells: Mapping[tuple[str | None, str | None], Cell]
    row_totals: Mapping[str | None, Cell]
    column_totals: Mapping[str | None, Cell]
    total: Cell
    left_over: tuple[int, int]  # how many rows and columns REST stands for


def pivots(rows: Iterable[Mapping[str, Any]], across: str, down: str = "", *, in_order: Callable[[str], bool]) -> list[Pivot]:  # fmt: skip
    """One table a currency, the one with most charges first. `in_order`: keys that are shown in their own order, as days are."""
    by_currency: dict[str, dict[tuple[str, str], Cell]] = {}
    for row in rows:
        cells = by_currency.setdefault(row["currency"], {})
        key = (str(row[across]), str(row[down]) if down else "")
        cells[key] = cells.get(key, Cell()) + Cell(row["spent_minor"], row["at_most_minor"], row["charges"])
    found = [
        _pivot(currency, cells, in_order(across), in_order(down)) for currency, cells in sorted(by_currency.items())
    ]
    return sorted(found, key=lambda each: -each.total.charges)


def _pivot(currency: str, cells: Mapping[tuple[str, str], Cell], rows_in_order: bool, columns_in_order: bool) -> Pivot:
    row_totals, column_totals = _totals(cells, 0), _totals(cells, 1)
    rows, other_rows = _shown(row_totals, MOST_ROWS, rows_in_order)
    columns, other_columns = _shown(column_totals, MOST_COLUMNS, columns_in_order)
    folded: dict[tuple[str | None, str | None], Cell] = {}
    for (row, column), cell in cells.items():
        key = (REST if row in other_rows else row, REST if column in other_columns else column)
        folded[key] = folded.get(key, Cell()) + cell
    total = sum(cells.values(), Cell())
    return Pivot(
        currency, (*rows, *([REST] if other_rows else ())), (*columns, *([REST] if other_columns else ())), folded,
        _totals(folded, 0), _totals(folded, 1), total, (len(other_rows), len(other_columns)),
    )  # fmt: skip


def _totals(cells: Mapping[Any, Cell], place: int) -> dict[Any, Cell]:
    found: dict[Any, Cell] = {}
    for key, cell in cells.items():
        found[key[place]] = found.get(key[place], Cell()) + cell
    return found


def _shown(totals: Mapping[str, Cell], most: int, in_order: bool) -> tuple[list[str], set[str]]:
    """What is shown by itself, and the rest. Of days the latest are shown, of all else what costs most."""
    if in_order:
        ordered = sorted(totals, reverse=True)
    else:
        ordered = sorted(totals, key=lambda key: (-totals[key].at_most, -totals[key].charges, key))
    return (ordered if len(ordered) <= most else ordered[: most - 1]), set(ordered[most - 1 :] if len(ordered) > most else ())  # fmt: skip
