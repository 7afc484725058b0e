"""What several threads of one process want of the database at once is asked for once.

One of those that wait leads: it does the work for all, then hands over to the first that came meanwhile, so nobody
serves others for long. The work itself says when it begins to matter who waits: what it does for an item it does after
the item came.
"""

import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Generic, TypeVar

from django.db import InterfaceError, OperationalError

Item = TypeVar("Item")
Result = TypeVar("Result")
# Gives the items of all who wait at that moment. Called once.
Take = Callable[[], list[Item]]


class _Waiting(Generic[Item, Result]):
    """One caller's items, until somebody's work has them in it."""

    __slots__ = ("error", "is_next", "items", "results", "woken")

    def __init__(self, items: Sequence[Item]) -> None:
        self.items, self.woken, self.is_next = items, threading.Event(), False
        self.results: list[Result] = []
        # What stands if whoever leads ends without a word: nothing is known to be done.
        self.error: Exception | None = OperationalError("the work that this was part of did not end")


class Gathering(Generic[Item, Result]):
    """The callers of this process that wait for one kind of work. `work` takes the items and gives a result for each,
    in their order; those of several callers together are at most `most`.
    """

    def __init__(self, work: Callable[[Take[Item]], Sequence[Result]], *, most: int) -> None:
        self._work, self._most = work, most
        self._lock = threading.Lock()
        self._waiting: list[_Waiting[Item, Result]] = []
        self._is_led = False

    def ask(self, items: Sequence[Item]) -> list[Result]:
        """The results of these items. Raises what the work raised over them."""
        mine = _Waiting[Item, Result](items)
        with self._lock:
            self._waiting.append(mine)
            mine.is_next, self._is_led = not self._is_led, True
        if not mine.is_next:
            mine.woken.wait()
        if mine.is_next:
            self._lead()
        if mine.error is not None:
            raise mine.error
        return mine.results

    def _lead(self) -> None:
        together: list[_Waiting[Item, Result]] = []
        try:
            self._do(together, lambda: self._taken(together))
        finally:
            with self._lock:
                if not together:  # ended before it took anything, and not by an error
                    self._waiting.pop(0)
                successor = self._waiting[0] if self._waiting else None
                self._is_led = successor is not None
            for each in together:
                each.woken.set()
            if successor is not None:
                successor.is_next = True
                successor.woken.set()

    def _taken(self, together: list[_Waiting[Item, Result]]) -> list[Item]:
        with self._lock:
            together.append(self._waiting.pop(0))  # whoever leads
            count = len(together[0].items)
            while self._waiting and (count := count + len(self._waiting[0].items)) <= self._most:
                together.append(self._waiting.pop(0))
        return [item for each in together for item in each.items]

    def _do(self, together: list[_Waiting[Item, Result]], take: Take[Item]) -> None:
        """Nobody's error is another's, but for a database that is gone: then all are told the same."""
        try:
            results = iter(self._work(take))
            for each in together:
                each.results, each.error = list(islice(results, len(each.items))), None
        except Exception as error:
            if not together:
                take()
            if len(together) == 1 or isinstance(error, (OperationalError, InterfaceError)):
                for each in together:
                    each.error = error
            else:
                for each in together:
                    self._do([each], lambda one=each: list(one.items))
