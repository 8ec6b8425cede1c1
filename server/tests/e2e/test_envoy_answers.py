"""What the service's own answers carry through Envoy: headers, metadata, and answers that are held back."""

import time
import uuid

import pytest

from lib.envoy import Envoy, cluster, grpc_cluster, header, http_listener, limited, ratelimit, route, service
from lib.http import send, send_many, statuses
from lib.tollgate import Tollgate
from lib.wait import room_in_window, seconds_left, until

RULES = """
domain: shop
descriptors:
  - key: two
    metadata: { pool: gold }
    rate_limit: { unit: hour, requests_per_unit: 2, name: two }
  - key: patient
    rate_limit: { unit: second, requests_per_unit: 10, algorithm: leaky_bucket, queue: 5, max_hold: 400ms }
  - key: hurried
    rate_limit: { unit: second, requests_per_unit: 1, algorithm: leaky_bucket, queue: 5 }
  - key: quick
    rate_limit: { unit: second, requests_per_unit: 100, algorithm: leaky_bucket, queue: 1, max_hold: 15ms }
"""

METADATA = "envoy.filters.http.ratelimit"


def showing(*path: str, name: str) -> dict:
    """A response header with a part of the dynamic metadata."""
    value = f"%DYNAMIC_METADATA({':'.join((METADATA, *path))})%"
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


ROUTES = [
    route(
        "/two",
        limited(header("x-id", "two")),
        response_headers_to_add=[
            showing("metadata", "pool", name="x-pool"),
            showing("domain", name="x-domain"),
            showing("descriptors", name="x-descriptors"),
        ],
    ),
    *[route(f"/{key}", limited(header("x-id", key))) for key in ("patient", "hurried", "quick")],
]


@pytest.fixture(scope="module")
def envoy(shared, upstream) -> Envoy:
    talking = {"LIMIT_RESPONSE_HEADERS_ENABLED": "true", "RESPONSE_DYNAMIC_METADATA": "true"}
    renamed = {"LIMIT_RESPONSE_HEADERS_ENABLED": "true", "LIMIT_LIMIT_HEADER": "X-Quota"}
    first = Tollgate(shared, RULES, env=talking, settings={"response.retry_after": "true"})
    second = Tollgate(shared, RULES, name="renamed", env=renamed)
    access_log = {
        "name": "envoy.access_loggers.file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": str(shared.folder / "access.log"),
            "log_format": {
                "text_format_source": {"inline_string": f"%REQ(x-id)% %DYNAMIC_METADATA({METADATA}:domain)%\n"}
            },
        },
    }
    listeners = [
        http_listener("talking", ratelimit("shop"), *ROUTES, access_log=[access_log]),
        http_listener("short", ratelimit("shop", timeout="0.5s"), *ROUTES),
        http_listener("default", ratelimit("shop", timeout="0.02s", failure_mode_deny=False), *ROUTES),
        http_listener("renamed", ratelimit("shop", service("renamed")), *ROUTES),
    ]
    clusters = [
        cluster("upstream", upstream.port),
        grpc_cluster("tollgate", first.grpc),
        grpc_cluster("renamed", second.grpc),
    ]
    return Envoy(shared, listeners, clusters)


@pytest.fixture
def identity() -> str:
    return uuid.uuid4().hex


def test_the_service_tells_limit_remaining_and_reset_when_asked_to(envoy, identity):
    room_in_window(3600, 10)
    answers = [send(envoy.port("talking"), "/two", {"x-id": identity}) for _ in range(3)]
    told = [(answer.status, answer["ratelimit-limit"], answer["ratelimit-remaining"]) for answer in answers]
    assert told == [(200, "2", "1"), (200, "2", "0"), (429, "2", "0")]
    resets = [int(answer["ratelimit-reset"]) for answer in answers]
    assert all(seconds_left(3600) <= reset <= seconds_left(3600) + 5 for reset in resets)


def test_the_service_tells_when_to_retry_on_refusals_only(envoy, identity):
    room_in_window(3600, 10)
    answers = [send(envoy.port("talking"), "/two", {"x-id": identity}) for _ in range(3)]
    assert [answer["retry-after"] for answer in answers[:2]] == [None, None]
    assert answers[2]["retry-after"] == answers[2]["ratelimit-reset"]


def test_headers_can_be_renamed(envoy, identity):
    answer = send(envoy.port("renamed"), "/two", {"x-id": identity})
    assert (answer["x-quota"], answer["ratelimit-limit"], answer["ratelimit-remaining"]) == ("2", None, "1")
    assert answer["retry-after"] is None


def test_metadata_of_the_rule_reaches_later_filters(envoy, identity):
    answer = send(envoy.port("talking"), "/two", {"x-id": identity})
    assert (answer["x-pool"], answer["x-domain"]) == ("gold", "shop")
    assert answer["x-descriptors"] == f'[{{"entries":["two={identity}"]}}]'


def test_metadata_reaches_the_access_log(envoy, identity, shared):
    send(envoy.port("talking"), "/two", {"x-id": identity})
    log = shared.folder / "access.log"
    until(lambda: f"{identity} shop\n" in log.read_text(), "the request is in the access log")


def test_a_leaky_bucket_holds_callers_and_lets_them_pass_in_turn(envoy, identity):
    began = time.monotonic()
    answers = send_many(4, envoy.port("short"), "/patient", {"x-id": identity})
    took = time.monotonic() - began
    assert statuses(answers) == [200] * 4
    # one at once, and one every 100 ms after it
    assert took >= 0.3


def test_a_leaky_bucket_refuses_who_would_have_to_wait_too_long(envoy, identity):
    began = time.monotonic()
    answers = statuses(send_many(16, envoy.port("short"), "/patient", {"x-id": identity}))
    took = time.monotonic() - began
    assert set(answers) == {200, 429}
    # waits of 0, 100, ... 400 ms fit; later comers may take the place of those who have left
    assert 5 <= answers.count(200) <= 6 + took / 0.1


def test_a_leaky_bucket_without_hold_refuses_at_once(envoy, identity):
    began = time.monotonic()
    answers = [send(envoy.port("short"), "/hurried", {"x-id": identity}) for _ in range(2)]
    assert statuses(answers) == [200, 429]
    assert time.monotonic() - began < 0.9


def test_a_hold_fits_into_envoys_default_deadline(envoy, identity):
    error = "cluster.upstream.ratelimit.error"

    def held() -> bool:
        """Two at once: the second is held 10 ms. On a busy machine Envoy's 20 ms may pass; then once more."""
        before = envoy.stat(error)
        answers = send_many(2, envoy.port("default"), "/quick", {"x-id": identity})
        return statuses(answers) == [200, 200] and envoy.stat(error) == before

    until(held, "a hold of 10 ms passes within 20 ms")
