"""What Envoy lets a request cost, and limits that come with the request."""

import uuid

import pytest

from lib.envoy import Envoy, cluster, grpc_cluster, header, http_listener, limited, ratelimit, route
from lib.http import Response, send, statuses
from lib.tollgate import Tollgate
from lib.wait import until

RULES = """
domain: shop
descriptors:
  - key: ten
    rate_limit: { unit: day, requests_per_unit: 10 }
  - key: bytes
    rate_limit: { unit: day, requests_per_unit: 1000 }
"""


def ten(**options) -> dict:
    return limited(header("x-id", "ten"), **options)


def override(**limit) -> dict:
    return limited(header("x-id", "ten"), limit={"rate_limit": limit})


BY_METADATA = {"dynamic_metadata": {"metadata_key": {"key": "tests", "path": [{"key": "limit"}]}}}
ROUTES = [
    route("/one", ten()),
    route("/four", ten(hits_addend={"number": 4})),
    route("/look", ten(hits_addend={"number": 0})),
    route("/refund", ten(hits_addend={"number": 3, "is_negative_hits": True})),
    route("/asked", ten(hits_addend={"format": "%REQ(x-cost)%"})),
    route("/after", ten(hits_addend={"format": "%RESP(x-cost)%"}, apply_on_stream_done=True)),
    route("/static", override(requests_per_unit=2, unit="DAY")),
    route("/dynamic", limited(header("x-id", "ten"), limit=BY_METADATA)),
]


@pytest.fixture(scope="module")
def tollgate(shared) -> Tollgate:
    return Tollgate(shared, RULES)


def set_limit_from_header() -> dict:
    """Puts `x-limit` (requests a day) where the override looks for it, as an auth filter would."""
    lua = """
        function envoy_on_request(handle)
          local limit = handle:headers():get("x-limit")
          if limit then
            local value = { requests_per_unit = tonumber(limit), unit = "DAY" }
            handle:streamInfo():dynamicMetadata():set("tests", "limit", value)
          end
        end
    """
    config = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
        "default_source_code": {"inline_string": lua},
    }
    return {"name": "lua", "typed_config": config}


@pytest.fixture(scope="module")
def envoy(shared, tollgate, upstream) -> Envoy:
    telling = http_listener("http", ratelimit("shop", enable_x_ratelimit_headers="DRAFT_VERSION_03"), *ROUTES)
    manager = telling["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"].insert(0, set_limit_from_header())
    return Envoy(shared, [telling], [cluster("upstream", upstream.port), grpc_cluster("tollgate", tollgate.grpc)])


@pytest.fixture
def ask(envoy):
    identity = uuid.uuid4().hex
    return lambda path, **headers: send(
        envoy.port("http"), path, {"x-id": identity} | {key.replace("_", "-"): value for key, value in headers.items()}
    )


def left(response: Response) -> str | None:
    return response["x-ratelimit-remaining"]


def test_a_cost_counts_as_that_many_requests(ask):
    answers = [ask("/four") for _ in range(3)]
    assert statuses(answers) == [200, 200, 429]
    assert [left(answer) for answer in answers] == ["6", "2", "0"]


def test_a_cost_of_nothing_looks_without_counting(ask):
    assert [left(ask("/look")) for _ in range(3)] == ["10", "10", "10"]
    assert left(ask("/one")) == "9"
    assert left(ask("/look")) == "9"


def test_looking_at_an_exhausted_limit_passes_until_it_is_exceeded(ask):
    # as with the reference: refused is what would stand above the limit
    for _ in range(10):
        ask("/one")
    assert ask("/look").status == 200
    assert ask("/one").status == 429
    assert ask("/look").status == 429


def test_a_refund_gives_back(ask):
    assert [left(ask("/four")) for _ in range(2)] == ["6", "2"]
    assert left(ask("/refund")) == "5"
    assert left(ask("/one")) == "4"


def test_a_refund_never_gives_more_than_was_used(ask):
    assert left(ask("/one")) == "9"
    assert left(ask("/refund")) == "10"
    assert left(ask("/refund")) == "10"
    assert left(ask("/one")) == "9"


def test_a_cost_can_come_from_the_request(ask):
    assert left(ask("/asked", x_cost="7")) == "3"
    assert ask("/asked", x_cost="4").status == 429


def test_a_cost_can_come_from_the_response(ask):
    assert ask("/after", x_ask_cost="6").status == 200
    # Envoy tells us after the client has its answer
    until(lambda: left(ask("/look")) == "4", "the cost of the response is counted")


def test_a_response_can_cost_more_than_is_left(ask):
    assert ask("/after", x_ask_cost="25").status == 200
    until(lambda: ask("/look").status == 429, "the cost of the response is counted")


def test_a_route_brings_its_own_limit(ask):
    answers = [ask("/static") for _ in range(3)]
    assert statuses(answers) == [200, 200, 429]
    assert {answer["x-ratelimit-limit"] for answer in answers} == {"2, 2;w=86400"}


def test_a_limit_can_come_with_the_request(ask):
    answers = [ask("/dynamic", x_limit="3") for _ in range(4)]
    assert statuses(answers) == [200, 200, 200, 429]
    assert answers[0]["x-ratelimit-limit"] == "3, 3;w=86400"
    # without one the rule holds
    assert ask("/dynamic")["x-ratelimit-limit"] == "10, 10;w=86400"
