"""What callers of one process share: their results are their own, their errors too."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError

from auditlog.database.gather import Gathering


class Gate:
    """Work that holds its first caller until it is opened, so that others come to wait."""

    def __init__(self, work):
        self.rounds, self.opened, self.entered = [], threading.Event(), threading.Event()
        self._work = work

    def __call__(self, take):
        if not self.entered.is_set():
            items = take()
            self.entered.set()
            assert self.opened.wait(10)
        else:
            items = take()
        self.rounds.append(items)
        return self._work(items)


def asked(gate, wanted, *, most=100):
    """Ask for each of `wanted` in a thread of its own: the first leads alone, all others wait for it. Outcomes in
    order.
    """
    gathering = Gathering(gate, most=most)

    def ask(items):
        try:
            return gathering.ask(items)
        except BaseException as error:
            return error

    with ThreadPoolExecutor(len(wanted)) as pool:
        first = pool.submit(ask, wanted[0])
        assert gate.entered.wait(10)
        others = []
        for items in wanted[1:]:
            others.append(pool.submit(ask, items))
            while len(gathering._waiting) < len(others):
                time.sleep(0.001)
        gate.opened.set()
        return [each.result(10) for each in (first, *others)]


def test_those_who_wait_share_one_round_and_each_gets_his_own_results():
    gate = Gate(lambda items: [item * 10 for item in items])

    assert asked(gate, [[1], [2, 3], [], [4]]) == [[10], [20, 30], [], [40]]
    assert gate.rounds == [[1], [2, 3, 4]]


def test_a_round_has_no_more_than_its_share():
    gate = Gate(lambda items: items)

    assert asked(gate, [[0], [1, 2], [3], [4, 5]], most=3) == [[0], [1, 2], [3], [4, 5]]
    assert gate.rounds == [[0], [1, 2, 3], [4, 5]]


def test_one_caller_s_error_is_nobody_else_s():
    def work(items):
        if 3 in items:
            raise ValueError("three")
        return items

    first, two, three, four = asked(Gate(work), [[1], [2], [3], [4]])

    assert (first, two, four) == ([1], [2], [4])
    assert isinstance(three, ValueError)


def test_when_the_database_is_gone_all_who_wait_are_told_at_once():
    gate = Gate(lambda items: items if items == [1] else (_ for _ in ()).throw(OperationalError("gone")))

    first, *others = asked(gate, [[1], [2], [3]])

    assert first == [1]
    assert all(isinstance(error, OperationalError) for error in others)
    assert gate.rounds == [[1], [2, 3]]


def test_an_error_before_anything_was_taken_reaches_those_who_wait():
    gate = Gate(lambda items: items)

    def work(take):
        if gate.entered.is_set():
            raise OperationalError("no connection")
        return gate(take)

    work.entered, work.opened = gate.entered, gate.opened

    first, *others = asked(work, [[1], [2], [3]])

    assert first == [1]
    assert all(isinstance(error, OperationalError) for error in others)


@pytest.mark.parametrize("taken", [True, False])
def test_a_leader_that_ends_without_a_word_leaves_the_others_served_or_told(taken):
    gate = Gate(lambda items: items)
    ended = threading.Event()

    def work(take):
        if gate.entered.is_set() and not ended.is_set():
            ended.set()
            if taken:
                take()
            raise SystemExit
        return gate(take)

    work.entered, work.opened = gate.entered, gate.opened

    first, second, third = asked(work, [[1], [2], [3]])

    assert first == [1]
    assert isinstance(second, SystemExit)
    assert isinstance(third, OperationalError) if taken else third == [3]


def test_the_wait_before_taking_lets_more_in():
    began, may_take = threading.Event(), threading.Event()
    rounds = []

    def work(take):
        began.set()
        assert may_take.wait(10)
        rounds.append(take())
        return rounds[-1]

    gathering = Gathering(work, most=100)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(gathering.ask, [1])
        assert began.wait(10)
        second = pool.submit(gathering.ask, [2])
        while len(gathering._waiting) < 2:
            time.sleep(0.001)
        may_take.set()
        assert (first.result(10), second.result(10)) == ([1], [2])

    assert rounds == [[1, 2]]
