"""What a path of grants allows, and where a hop gave more than it had."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.chain.authority import (
    action_matches,
    covers,
    ended_before,
    judge_action,
    judge_audience,
    judge_depth,
    judge_resource,
    judge_window,
    resource_matches,
    revocation_text,
    told_later,
    widenings,
)
from auditlog.core.chain.chain import NO_TOKENS, Path, path_to
from auditlog.core.chain.statement import Grant
from auditlog.core.event import Deny, Detail, Limit, Party

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def grant(number=0, **changes):
    fields = {
        "id": f"g{number}", "parent": f"g{number - 1}" if number else None, "root": number == 0,
        "subject": Party("i", f"p{number}", "human" if number == 0 else "agent"), "actor": Party("i", f"p{number + 1}", "agent"),
        "details": None, "limits": None, "not_before": None, "expires_at": None, "audience": None, "max_depth": None,
        "redelegate": True, "gates": None, "intent": None, "jkt": None, "granted_at": NOW, "leaf_index": number,
        "event_id": f"e{number}", "source": "s", "attester": "i", "grade": "A", "standing": "proven",
    } | changes  # fmt: skip
    return Grant(**fields)


def path(*changes):
    return Path(tuple(grant(n, **change) for n, change in enumerate(changes)), None, cycle=False)


def detail(actions=(), resources=(), providers=(), deny=None):
    return Detail(actions=list(actions), resources=list(resources), providers=list(providers), deny=deny)


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("domain.register", "domain.register", True),
        ("domain.register", "domain.registers", False),
        ("domain.register", "a.domain.register", False),
        ("worker.*", "worker.deploy", True),
        ("worker.*", "worker.deploy.prod", False),
        ("worker.**", "worker.deploy.prod", True),
        ("*", "worker", True),
        ("*", "worker.deploy", False),
        ("**", "worker.deploy", True),
        ("wor*er.x", "worker.x", True),
        ("a+b", "aab", False),
    ],
)
def test_action_patterns_are_anchored_and_a_star_stays_within_its_segment(pattern, value, matches):
    assert action_matches(pattern, value) is matches


@pytest.mark.parametrize(
    ("pattern", "value", "matches"),
    [
        ("acme.io", "ACME.io.", True),
        ("*.acme.io", "www.acme.io", True),
        ("*.acme.io", "a.b.acme.io", False),
        ("*.acme.io", "acme.io", False),
        ("**.acme.io", "a.b.acme.io", True),
        ("acme.io", "acme.io.evil.example", False),
        ("acme.io", "xacme.io", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("acme.io", "acme\u3002io", True),  # the dots of other scripts
        ("acme.io", "ACME\uff0eio\uff61", True),
        ("acme.io", "\uff41cme.io", True),  # a full-width letter
        ("*.bücher.example", "www.xn--bcher-kva.example", True),
        ("bü*.example", "xn--bcher-kva.example", True),  # a star beside a letter that IDNA writes otherwise
        ("xn--*.example", "bücher.example", True),
        ("b*.example", "xn--acher-kva.example", False),
        ("acme.io", "acme⒈io", False),
        ("qzonezq.io", "acme.io", False),  # no letters of a name are a wildcard
        ("qzmanyzq.io", "www.acme.io", False),
        ("project/web/*", "project/web/app", True),
        ("project/web/*", "project/web/app/x", False),
        ("project/web/**", "project/web/app/x", True),
        ("Bucket/A", "bucket/a", False),
        ("acme.co.uk", "www.shop.ACME.co.uk.", True),  # all that lies in a registrable name
        ("www.acme.co.uk", "acme.co.uk", False),
        ("www.acme.co.uk", "mail.www.acme.co.uk", False),
        ("co.uk", "acme.co.uk", False),  # a public suffix is nobody's
        ("uk", "acme.co.uk", False),
        ("github.io", "mallory.github.io", False),  # under which anybody has a name of his own
        ("acme.github.io", "www.acme.github.io", True),
        ("bücher.de", "www.xn--bcher-kva.de", True),
        ("acme.io", "acme.io?x.evil.com", False),
        ("acme.io", "evil.com/www.acme.io", False),
        ("acme.io", "evil.com@www.acme.io", False),
        ("acme.io", "a b.acme.io", False),
        ("10.0.0.1", "1.10.0.0.1", False),
        ("v1.2", "3.v1.2", False),  # no name that anybody could hold
    ],
)
def test_resources_that_are_names_compare_as_names(pattern, value, matches):
    assert resource_matches(pattern, value) is matches


def test_a_denied_name_is_denied_in_whatever_letters_and_dots_it_is_written():
    allowed = path({"details": (detail(["**"], ["**"], deny=Deny(resources=["bü*.example", "acme.io"])),)})

    for written in ("bücher.example", "xn--bcher-kva.example", "BÜCHER.example.", "acme\u3002io", "Acme.IO."):
        assert judge_resource(allowed, verb="dns.write", provider="", resource=written).result == "fail"


@pytest.mark.parametrize(
    "written",
    [
        "https://acme.io/",
        "HTTPS://user@www.ACME.io:8443/x?y",
        "acme.io:443",
        "acme。io:80",
        "https://acme.io.",
        "ftp://acme.io#x",
    ],
)
def test_a_denied_name_is_denied_in_an_address(written):
    allowed = path({"details": (detail(["**"], ["**"], deny=Deny(resources=["acme.io"])),)})

    assert judge_resource(allowed, verb="http.get", provider="", resource=written).result == "fail"


@pytest.mark.parametrize(
    "written",
    [
        "https://evil.io/acme.io",
        "urn:acme.io",
        "project:acme.io",
        "https://acme.io.evil.example/",
        "arn:aws:s3:::acme.io",
    ],
)
def test_what_only_mentions_a_denied_name_is_no_address_of_it(written):
    allowed = path({"details": (detail(["**"], ["**"], deny=Deny(resources=["acme.io"])),)})

    assert judge_resource(allowed, verb="http.get", provider="", resource=written).result == "pass"


NAME = st.tuples(
    st.lists(st.sampled_from(["www", "acme", "*", "w*"]), max_size=3),
    st.sampled_from(["io", "co.uk", "github.io", "uk", "internal"]),
).map(lambda parts: ".".join([*parts[0], parts[1]]))


@given(NAME, NAME, NAME.filter(lambda name: "*" not in name))
def test_what_a_parent_covers_of_names_it_matches(parent, child, value):
    if covers(parent, child, name=True) and resource_matches(child, value):
        assert resource_matches(parent, value)


SEGMENT = st.sampled_from(["a", "b", "ab", "*", "**", "a*"])
PATTERN = st.lists(SEGMENT, min_size=1, max_size=3).map(".".join)
VALUE = st.lists(st.sampled_from(["a", "b", "ab", "abb"]), min_size=1, max_size=4).map(".".join)


def slow_match(pattern, value):
    """The same meaning by another way: an ordinary regular expression written out by hand."""
    body = re.escape(pattern).replace(r"\*\*", "\0").replace(r"\*", "[^./]*").replace("\0", ".*")
    return re.fullmatch(body, value) is not None


@given(PATTERN, VALUE)
def test_patterns_match_as_the_slow_way_does(pattern, value):
    assert action_matches(pattern, value) == slow_match(pattern, value)


@given(PATTERN, PATTERN, st.lists(VALUE, max_size=20))
def test_what_a_parent_covers_it_matches(parent, child, values):
    if covers(parent, child):
        for value in values:
            assert not slow_match(child, value) or slow_match(parent, value)


@given(PATTERN)
def test_a_pattern_covers_itself_and_everything_is_covered_by_everything(pattern):
    assert covers(pattern, pattern) and covers("**", pattern)


def test_the_intersection_counts_and_the_failing_hop_is_named():
    both = path({"details": (detail(["dns.*", "worker.*"]),)}, {"details": (detail(["dns.*"]),)})

    assert judge_action(both, verb="dns.read", provider="cloud").result == "pass"
    refused = judge_action(both, verb="worker.deploy", provider="cloud")
    assert (refused.result, refused.hop, refused.grant) == ("fail", 2, "g1")


def test_deny_wins_over_any_allow_on_any_hop():
    allowed = path(
        {"details": (detail(["**"]), detail(deny=Deny(actions=["dns.delete"])))}, {"details": (detail(["dns.**"]),)}
    )

    assert judge_action(allowed, verb="dns.delete", provider="").result == "fail"
    assert judge_action(allowed, verb="dns.read", provider="").result == "pass"


def test_details_of_a_child_that_states_none_are_inherited_and_of_a_root_unknown():
    inherited = path({"details": (detail(["dns.*"]),)}, {})
    unknown = path({}, {"details": (detail(["dns.*"]),)})

    assert judge_action(inherited, verb="worker.deploy", provider="").result == "fail"
    assert judge_action(unknown, verb="dns.read", provider="").result == "unknown"
    assert judge_action(unknown, verb="worker.deploy", provider="").result == "fail"
    assert judge_action(path({}), verb="", provider="").result == "unknown"


def test_a_detail_holds_for_its_providers_only():
    only = path({"details": (detail(["dns.*"], providers=["cloud"]),)})

    assert judge_action(only, verb="dns.read", provider="cloud").result == "pass"
    assert judge_action(only, verb="dns.read", provider="registrar").result == "fail"


def test_where_no_provider_is_named_a_detail_of_some_providers_allows_nothing_for_certain():
    some, also_any = detail(["dns.*"], providers=["cloud"]), detail(["dns.read"])

    assert judge_action(path({"details": (some,)}), verb="dns.read", provider="").result == "unknown"
    assert judge_action(path({"details": (some,)}), verb="mail.send", provider="").result == "fail"
    assert judge_action(path({"details": (some, also_any)}), verb="dns.read", provider="").result == "pass"
    assert judge_action(path({"details": (also_any,)}, {"details": (some,)}), verb="dns.read", provider="").hop == 2


def test_resources_are_those_of_a_detail_that_allows_the_action():
    split = path({"details": (detail(["dns.*"], ["acme.io"]), detail(["worker.*"], ["*.acme.dev"]))})

    assert judge_resource(split, verb="dns.read", provider="", resource="acme.io").result == "pass"
    assert judge_resource(split, verb="dns.read", provider="", resource="x.acme.dev").result == "fail"
    assert judge_resource(split, verb="dns.read", provider="", resource="").result == "unknown"


def test_payments_are_within_any_grant_that_does_not_deny_them():
    narrow = path({"details": (detail(["domain.register"], ["acme.io"]),)})
    denied = path({"details": (detail(["**"], deny=Deny(actions=["payment.*"])),)})

    assert judge_action(narrow, verb="payment.capture", provider="", payment=True).result == "pass"
    assert judge_action(denied, verb="payment.capture", provider="", payment=True).result == "fail"


def test_time_windows_have_skew_and_an_exclusive_end():
    window = path({"not_before": NOW, "expires_at": NOW + timedelta(hours=1)})
    ends = NOW + timedelta(hours=1)

    assert judge_window(window, ends - timedelta(microseconds=1)).result == "pass"
    assert judge_window(window, ends).result == "fail"
    assert judge_window(window, ends, skew_seconds=30).result == "pass"
    assert judge_window(window, NOW - timedelta(seconds=31), skew_seconds=30).result == "fail"


def test_a_grant_that_states_no_beginning_begins_when_it_was_given_by_clocks_that_may_differ():
    given = path({"granted_at": NOW})
    told = path({"granted_at": NOW, "dated": False})

    assert judge_window(given, NOW - timedelta(seconds=30)).result == "pass"
    assert judge_window(given, NOW - timedelta(seconds=31)).result == "fail"
    assert judge_window(given, NOW - timedelta(seconds=31), skew_seconds=60).result == "pass"
    assert judge_window(told, NOW - timedelta(days=9)).result == "pass"
    assert told_later(told, NOW - timedelta(days=9)).id == "g0" and told_later(given, NOW - timedelta(days=9)) is None


def test_an_audience_that_lacks_the_provider_fails_and_an_unnamed_provider_is_unknown():
    named = path({"audience": ("cloud",)}, {})

    assert judge_audience(named, "cloud").result == "pass"
    assert judge_audience(named, "meter").result == "fail"
    assert judge_audience(named, "").result == "unknown"
    assert judge_audience(path({}), "anything").result == "pass"


def test_depth_counts_grants_below_and_a_root_that_does_not_say_may_not_be_passed_on():
    assert judge_depth(path({"max_depth": 1}, {})).result == "pass"
    assert judge_depth(path({"max_depth": 1}, {}, {})).result == "fail"
    assert judge_depth(path({"redelegate": None}, {})).result == "fail"
    assert judge_depth(path({"redelegate": None})).result == "pass"
    assert judge_depth(path({}, {"redelegate": None}, {})).result == "pass"
    assert judge_depth(path({}, {"redelegate": False}, {})).hop == 3


def test_a_revocation_before_its_notice_is_a_race_and_after_it_is_not():
    revoked = {"revoked_at": NOW, "revoked_leaf": 9}
    race = path(revoked | {"notified": {"cloud": NOW + timedelta(seconds=5)}})
    told = path(revoked | {"notified": {"cloud": NOW}})

    def said(of, seconds):
        found = ended_before(of, NO_TOKENS, NOW + timedelta(seconds=seconds), provider="cloud", grace_seconds=60)
        return found and revocation_text(found, "cloud")

    assert said(race, 1).startswith("race")
    assert not said(told, 61).startswith("race")
    assert said(told, -1) is None


@pytest.mark.parametrize(
    ("parent", "child", "kinds"),
    [
        ({"details": (detail(["dns.*"]),)}, {"details": (detail(["dns.read"]),)}, []),
        ({"details": (detail(["dns.*"]),)}, {"details": (detail(["dns.**"]),)}, ["scope"]),
        ({"details": (detail(["dns.*"]),)}, {"details": (detail([]),)}, ["scope"]),
        ({"details": (detail(["dns.*"], ["acme.io"]),)}, {"details": (detail(["dns.*"], ["*.io"]),)}, ["scope"]),
        ({"details": (detail(["dns.*"], providers=["a"]),)}, {"details": (detail(["dns.*"]),)}, ["scope"]),
        (
            {"details": (detail(["a"], ["x.io"]), detail(["b"], ["y.io"]))},
            {"details": (detail(["a"], ["y.io"]),)},
            ["scope"],
        ),
        ({"details": (detail(["a"], ["x.io"]), detail(["b"], ["y.io"]))}, {"details": (detail(["b"], ["Y.IO."]),)}, []),
        ({"audience": ("a",)}, {"audience": ("a", "b")}, ["scope"]),
        ({"expires_at": NOW}, {"expires_at": NOW + timedelta(seconds=1)}, ["expiry"]),
        ({"expires_at": NOW}, {}, []),
        ({"max_depth": 3}, {"max_depth": 3}, []),
        ({"max_depth": 3}, {"max_depth": 4}, ["depth"]),
        ({"limits": (Limit(max_minor=500),)}, {"limits": (Limit(max_minor=500, id="other"),)}, []),
        ({"limits": (Limit(max_minor=500),)}, {"limits": (Limit(max_minor=501),)}, ["limit"]),
        ({"limits": (Limit(max_minor=500),)}, {"limits": (Limit(max_minor=None),)}, ["limit"]),
        ({"limits": (Limit(max_minor=500),)}, {"limits": (Limit(max_minor=900, currency="EUR"),)}, []),
    ],
)
def test_a_child_may_narrow_and_repeat_but_not_widen(parent, child, kinds):
    assert [w.kind for w in widenings(path(parent, child))] == kinds


def test_a_middle_grant_that_states_nothing_does_not_hide_a_widening():
    found = widenings(path({"details": (detail(["dns.*"]),)}, {}, {"details": (detail(["worker.deploy"]),)}))

    assert [(w.kind, w.hop, w.by.id) for w in found] == [("scope", 3, "g2")]


def test_a_path_stops_at_a_missing_parent_a_root_and_a_cycle():
    known = {g.id: g for g in (grant(0), grant(1), grant(2))}

    assert [g.id for g in path_to("g2", known).grants] == ["g0", "g1", "g2"]
    assert path_to("g2", {k: v for k, v in known.items() if k != "g0"}).missing == "g0"
    looped = known | {"g0": grant(0, parent="g2", root=False)}
    assert path_to("g2", looped).cycle and not path_to("g2", looped).ends_at_root


def test_a_path_of_ten_thousand_hops_ends():
    known = {f"g{n}": grant(n) for n in range(10_000)}

    assert path_to("g9999", known).cycle
