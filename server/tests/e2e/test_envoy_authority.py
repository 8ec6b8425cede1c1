"""Envoy sends its cluster's name as `:authority`, whatever characters are in it. Such calls are served."""

import uuid

import pytest

from lib.envoy import Envoy, cluster, fixed, grpc_cluster, header, http_listener
from lib.envoy import limited, pipe, ratelimit, route, service
from lib.http import send, send_many, statuses
from lib.tollgate import Tollgate

RULES = """
domain: shop
descriptors:
  - key: three
    rate_limit: { unit: day, requests_per_unit: 3 }
  - key: plenty
    rate_limit: { unit: day, requests_per_unit: 100000 }
"""

NAMES = [
    "ratelimit",
    "outbound|8081||ratelimit.default.svc.cluster.local",
    "extension/projectcontour/ratelimit",
    "a rate limit service",
    "{service}<limit>",
    "back\\slash^caret`tick\"quote",
    "ümlaut-☃",
    "user@host:1:2",
    "%zz",
    "[::1",
    "x" * 300 + "|",
]
AUTHORITIES = [
    "ratelimit:8081",
    "outbound|8081||x",
    "not a host",
    "unix:/run/tollgate.sock",
    "/run/tollgate.sock",
    "[",
    "a,b",
]
ROUTES = [
    route("/three", limited(header("x-id", "three"))),
    route("/plenty", limited(header("x-id", "plenty")), limited(fixed("generic", "x"))),
]


class Case:
    """One listener with its own way to the server."""

    def __init__(self, name: str, label: str, rate_limit_service: dict, clusters: list[dict]):
        self.name, self.label, self.service, self.clusters = name, label, rate_limit_service, clusters

    def __repr__(self) -> str:
        return self.label


def with_metadata(found: dict) -> dict:
    """More headers, one that changes with every call: both sides' header tables move on."""
    found["grpc_service"]["initial_metadata"] = [
        {"key": "x-token", "value": "secret" * 10},
        {"key": "x-request", "value": "%REQ(x-id)%"},
    ]
    return found


def cases(tcp_port: int, socket: str) -> list[Case]:
    found = []
    for place, name in enumerate(NAMES):
        own = grpc_cluster(name, tcp_port)
        found.append(Case(f"name{place}", f"name {name[:60]}", with_metadata(service(name)), [own]))
    for place, authority in enumerate(AUTHORITIES):
        found.append(Case(f"authority{place}", f"authority {authority}", service("ratelimit", authority), []))
    over_socket = grpc_cluster("uds|cluster", pipe(socket))
    found.append(Case("uds", "unix socket", service("uds|cluster"), [over_socket]))
    google = {"target_uri": f"127.0.0.1:{tcp_port}", "stat_prefix": "google"}
    by_google = {"transport_api_version": "V3", "grpc_service": {"google_grpc": google}}
    found.append(Case("google", "google_grpc", by_google, []))
    return found


ALL = cases(0, "")


@pytest.fixture(scope="module")
def by_tcp(shared) -> Tollgate:
    return Tollgate(shared, RULES)


@pytest.fixture(scope="module")
def envoy(shared, upstream, by_tcp) -> Envoy:
    socket = str(shared.folder / "rls.sock")
    Tollgate(shared, RULES, name="uds", env={"GRPC_UDS": socket})
    real = cases(by_tcp.grpc, socket)
    clusters = [cluster("upstream", upstream.port), *(each for case in real for each in case.clusters)]
    listeners = [http_listener(case.name, ratelimit("shop", case.service), *ROUTES) for case in real]
    return Envoy(shared, listeners, clusters)


@pytest.fixture(params=ALL, ids=repr)
def port(envoy, request) -> int:
    return envoy.port(request.param.name)


def test_limits_are_exact_whatever_the_authority(port):
    identity = uuid.uuid4().hex
    assert statuses([send(port, "/three", {"x-id": identity}) for _ in range(5)]) == [200] * 3 + [429] * 2


def test_many_calls_on_one_connection_are_served_whatever_the_authority(port):
    answers = [
        *send_many(20, port, "/plenty", {"x-id": uuid.uuid4().hex}),
        *(send(port, "/plenty", {"x-id": uuid.uuid4().hex}) for _ in range(30)),
    ]
    assert statuses(answers) == [200] * 50


def test_mended_authorities_are_counted(envoy, by_tcp):
    case = next(case for case in ALL if "outbound" in case.label)
    assert send(envoy.port(case.name), "/plenty", {"x-id": "a"}).status == 200
    assert by_tcp.metric('tollgate_authorities_total{done="mended"}') > 0
