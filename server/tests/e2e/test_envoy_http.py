"""Envoy's HTTP filter: which requests pass, and what headers say."""

import uuid

import pytest

from lib.envoy import Envoy, cluster, fixed, grpc_cluster, header, http_listener, limited, ratelimit, route
from lib.http import Response, send, send_many, statuses
from lib.tollgate import Tollgate
from lib.wait import room_in_window, seconds_left

RULES = """
domain: shop
descriptors:
  - key: three
    rate_limit: { unit: hour, requests_per_unit: 3 }
  - key: twenty
    rate_limit: { unit: day, requests_per_unit: 20 }
  - key: five_minutes
    rate_limit: { unit: minute, unit_multiplier: 5, requests_per_unit: 10 }
  - key: named
    rate_limit: { unit: hour, requests_per_unit: 1000, name: hr }
  - key: none
    rate_limit: { unit: day, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: path
    value: /export*
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: path
    value: /share*
    share_threshold: true
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: watched
    shadow_mode: true
    rate_limit: { unit: day, requests_per_unit: 1 }
  - key: tenant
    descriptors:
      - key: user
        rate_limit: { unit: day, requests_per_unit: 2 }
      - key: user
        value: root
"""

ROUTES = [
    route("/three", limited(header("x-id", "three"))),
    route("/twenty", limited(header("x-id", "twenty"))),
    route("/five_minutes", limited(header("x-id", "five_minutes"))),
    route("/none", limited(header("x-id", "none"))),
    route("/free", limited(header("x-id", "free"))),
    route("/export", limited(header(":path", "path"))),
    route("/share", limited(header(":path", "path"))),
    route("/watched", limited(header("x-id", "watched"))),
    route("/nested", limited(header("x-tenant", "tenant"), header("x-user", "user"))),
    route("/two", limited(header("x-id", "named")), limited(header("x-id", "three"))),
    route("/unknown", limited(fixed("no_such_key", "x"))),
    route("/missing", limited(header("x-not-sent"))),
]


@pytest.fixture(scope="module")
def tollgate(shared) -> Tollgate:
    return Tollgate(shared, RULES)


@pytest.fixture(scope="module")
def envoy(shared, tollgate, upstream) -> Envoy:
    telling = ratelimit("shop", enable_x_ratelimit_headers="DRAFT_VERSION_03", enable_retry_after_header=True)
    listeners = [
        http_listener("telling", telling, *ROUTES),
        http_listener("silent", ratelimit("shop"), *ROUTES),
        http_listener("watching", ratelimit("shop", filter_enforced={"default_value": {"numerator": 0}}), *ROUTES),
    ]
    return Envoy(shared, listeners, [cluster("upstream", upstream.port), grpc_cluster("tollgate", tollgate.grpc)])


@pytest.fixture
def ask(envoy):
    """Sends requests with an identity that no other test has."""
    identity = uuid.uuid4().hex

    def ask(path: str, listener: str = "telling", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return send(envoy.port(listener), path, {"x-id": identity, **named})

    ask.identity = identity
    return ask


def told(response: Response) -> tuple[str | None, ...]:
    return tuple(response[f"x-ratelimit-{name}"] for name in ("limit", "remaining"))


def test_exactly_the_limit_passes_one_after_the_other(ask):
    assert statuses([ask("/three", "silent") for _ in range(5)]) == [200, 200, 200, 429, 429]


def test_exactly_the_limit_passes_at_the_same_time(envoy, ask):
    answers = statuses(send_many(50, envoy.port("silent"), "/twenty", {"x-id": ask.identity}))
    assert (answers.count(200), answers.count(429)) == (20, 30)


def test_each_value_has_a_limit_of_its_own(ask):
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    answers = [ask("/three", "silent", x_id=identity) for identity in (first, second) * 4]
    assert statuses(answers) == [200] * 6 + [429] * 2


def test_headers_tell_limit_policy_and_remaining(ask):
    room_in_window(3600, 10)
    answers = [ask("/three") for _ in range(5)]
    assert [told(answer) for answer in answers] == [
        ("3, 3;w=3600", "2"),
        ("3, 3;w=3600", "1"),
        ("3, 3;w=3600", "0"),
        ("3, 3;w=3600", "0"),
        ("3, 3;w=3600", "0"),
    ]


def test_reset_is_the_end_of_the_window(ask):
    room_in_window(3600, 10)
    most = seconds_left(3600)
    reset = int(ask("/three")["x-ratelimit-reset"])
    assert seconds_left(3600) <= reset <= most


def test_retry_after_comes_with_a_refusal_only_and_equals_reset(ask):
    room_in_window(3600, 10)
    passed = [ask("/three") for _ in range(3)]
    refused = ask("/three")
    assert [answer["retry-after"] for answer in passed] == [None] * 3
    assert refused.status == 429
    assert refused["retry-after"] == refused["x-ratelimit-reset"]
    assert refused["x-envoy-ratelimited"] == "true"


def test_a_window_of_several_units_is_told_in_full(ask):
    room_in_window(300, 5)
    answer = ask("/five_minutes")
    assert told(answer) == ("10, 10;w=300", "9")
    assert seconds_left(300) - 1 <= int(answer["x-ratelimit-reset"]) <= seconds_left(300) + 2


def test_two_descriptors_tell_both_policies_and_the_tighter_limit(ask):
    room_in_window(3600, 10)
    assert told(ask("/two")) == ('3, 1000;w=3600;name="hr", 3;w=3600', "2")


def test_one_refusal_of_two_descriptors_refuses(ask):
    assert statuses([ask("/two") for _ in range(4)]) == [200, 200, 200, 429]
    # the other limit was charged by all four, as with the reference
    assert ask("/two")["x-ratelimit-limit"].startswith("3, 1000")


def test_a_limit_of_nothing_refuses_everything(ask):
    answer = ask("/none")
    assert (answer.status, *told(answer)) == (429, "0, 0;w=86400", "0")


def test_no_limit_means_no_headers(ask):
    for path in ("/unknown", "/missing", "/free"):
        answer = ask(path)
        assert answer.status == 200, path
        assert told(answer) == (None, None), path


def test_a_wildcard_counts_each_path_for_itself(ask):
    one, other = f"/export/{uuid.uuid4().hex}", f"/export/{uuid.uuid4().hex}"
    assert statuses([ask(path) for path in (one, other) * 3]) == [200] * 4 + [429] * 2


def test_a_shared_wildcard_counts_all_paths_together(ask):
    paths = [f"/share/{uuid.uuid4().hex}" for _ in range(3)]
    assert statuses([ask(path) for path in paths]) == [200, 200, 429]


def test_a_nested_rule_counts_the_pair_and_an_exact_value_without_limit_is_free(ask):
    tenant = uuid.uuid4().hex
    asked = lambda user: ask("/nested", x_tenant=tenant, x_user=user).status  # noqa: E731
    assert [asked("ann") for _ in range(3)] == [200, 200, 429]
    assert asked("bob") == 200
    assert [asked("root") for _ in range(4)] == [200] * 4


def test_a_shadow_rule_counts_and_lets_pass(ask, tollgate):
    series = 'tollgate_decisions_total{domain="shop",outcome="shadowed",rule="watched"}'
    before = tollgate.metric(series)
    answers = [ask("/watched") for _ in range(3)]
    assert statuses(answers) == [200] * 3
    assert [told(answer)[1] for answer in answers] == ["0", "0", "0"]
    assert tollgate.metric(series) - before == 2


def test_a_filter_that_is_not_enforced_lets_pass_and_marks(ask):
    answers = [ask("/three", "watching") for _ in range(4)]
    assert statuses(answers) == [200] * 4
    assert [answer["x-envoy-ratelimited"] for answer in answers] == [None, None, None, "true"]


def test_the_statistics_of_envoy_agree(envoy, ask):
    names = [f"cluster.upstream.ratelimit.{name}" for name in ("ok", "over_limit", "error")]
    before = [envoy.stat(name) for name in names]
    for _ in range(5):
        ask("/three", "silent")
    assert [envoy.stat(name) - old for name, old in zip(names, before)] == [3, 2, 0]
