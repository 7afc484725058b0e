"""Clusters of names: what is one, from which name on, and what nobody should be woken for."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from auditlog.core.names.cluster import Named, clusters, gamma_poisson_tail, sizes_tail
from auditlog.simulator.measure_names import World, measure

NOW = datetime(2026, 9, 1, 8, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SYLLABLES = "ba co du fe gi ho ka lu me ni po ra su te vi wo ya zu".split()


def words(count, seed=1):
    made = random.Random(seed)
    return ["".join(made.choices(SYLLABLES, k=4)) for _ in range(count)]


def rows(labels, every, *, start=NOW, principal=lambda n: "ada", actor=lambda n: "bot"):
    return [
        Named(f"e{n}{label}", n, start + n * every, "domain", f"{label}.top", label, "", principal(n), actor(n), "", "", "", 99, "USD")
        for n, label in enumerate(labels)
    ]  # fmt: skip


@pytest.mark.parametrize("every", [2 * MINUTE, 40 * MINUTE])
def test_a_drip_of_numbered_names_is_a_cluster_by_its_fourth(every):
    assert clusters(rows(["bbsp625", "bbsp626", "bbsp629"], every)) == []
    [cluster] = clusters(rows(["bbsp625", "bbsp626", "bbsp629", "bbsp640"], every))
    assert len(cluster.rows) == 4 and list(cluster.signs) == ["template bbsp#"]


def test_a_few_numbered_names_in_one_sitting_are_one_decision():
    assert clusters(rows([f"launch{n}" for n in range(5)], MINUTE)) == []


def test_the_same_label_under_many_endings_is_one_name():
    assert clusters(rows(["quillwork"] * 40, MINUTE)) == []


@pytest.mark.parametrize(("count", "every"), [(40, MINUTE / 4), (24, 35 * MINUTE), (60, 10 * MINUTE)])
def test_a_flood_of_names_that_have_nothing_in_common_is_one_cluster_whoever_it_is_for(count, every):
    for principal in (lambda n: "ada", lambda n: f"account-{n}"):
        [cluster] = clusters(rows(words(count), every, principal=principal))
        assert len(cluster.rows) == count and list(cluster.signs) == ["rate"]


def test_who_has_always_bought_as_much_is_as_usual():
    usual = rows(words(400), 2 * HOUR)
    burst = rows(words(16, seed=2), 70 * MINUTE, start=NOW + 34 * DAY)
    assert clusters(burst) != []
    assert all(len({r.event_id for r in c.rows} & {r.event_id for r in burst}) == 0 for c in clusters([*usual, *burst]))


def test_agencies_and_owners_who_register_their_mark_everywhere_are_no_clusters():
    world = World([f"{word}.com" for word in words(3_000, seed=3)], seed=4)
    months = [world.month("agency", f"agency-{n}") for n in range(40)] + [
        world.defence(f"owner-{n}", "quillwork") for n in range(10)
    ]
    assert sum(map(len, months)) > 1_500
    assert [cluster for month in months for cluster in clusters(month)] == []


@pytest.mark.parametrize("count", [2, 5, 20, 200])
def test_a_tail_is_a_probability_and_falls_with_the_count(count):
    for tail in (lambda n: gamma_poisson_tail(n, 0.5, 0.7), lambda n: sizes_tail(n, 2, 20.0, 20.0)):
        assert 0 <= tail(count + 1) <= tail(count) <= 1


def test_files_of_names_are_measured(tmp_path):
    (tmp_path / "pairs.csv").write_text(
        "case_id,outcome,mark,disputed_domain\n1,transfer,quillwork,quillwork-login.com\n2,transfer,zava,weather.com\n3,denied,zava,zava.io\n"
    )
    (tmp_path / "names.csv").write_text("domain\n" + "\n".join(f"{word}.com" for word in words(200)))
    (tmp_path / "clusters.csv").write_text("template,domain\n" + "\n".join(f"bbsp#.top,bbsp{n}.top" for n in range(40)))
    (tmp_path / "brands").write_text("quillwork\nzava.com\n")

    found = measure(
        pairs=tmp_path / "pairs.csv", names=tmp_path / "names.csv", registrations=tmp_path / "clusters.csv", brands=tmp_path / "brands", months=40
    )  # fmt: skip

    assert (found["pairs"]["cases_alert"]["share"], found["pairs"]["cases_alert"]["of"]) == (0.5, 2)
    assert (
        found["clusters"]["found_by_10th"]["share"] == 1.0 and found["clusters"]["false_per_1000_principal_months"] == 0
    )
    assert found["brands"]["brands"] == 2 and found["brands"]["names_per_s"] > 0
