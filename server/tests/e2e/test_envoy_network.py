"""Envoy's network filter: connections above the limit are closed before a byte is answered."""

import http.client
import uuid

import pytest

from lib.envoy import NETWORK_FILTERS, Envoy, cluster, grpc_cluster, listener, service
from lib.http import send
from lib.processes import free_port
from lib.tollgate import Tollgate
from lib.wait import until

RULES = """
domain: edge
descriptors:
  - key: connections
    rate_limit: { unit: day, requests_per_unit: 3 }
  - key: remote_address
    rate_limit: { unit: day, requests_per_unit: 2 }
"""

REFUSED = "closed without an answer"


def limited_connections(name: str, key: str, value: str, server: str = "tollgate", **options) -> dict:
    """A listener that passes connections to the upstream if the descriptor is within its limit."""
    limiter = {
        "@type": f"{NETWORK_FILTERS}.ratelimit.v3.RateLimit",
        "stat_prefix": name,
        "domain": "edge",
        "descriptors": [{"entries": [{"key": key, "value": value}]}],
        "timeout": "2s",
        "rate_limit_service": service(server),
        **options,
    }
    proxy = {"@type": f"{NETWORK_FILTERS}.tcp_proxy.v3.TcpProxy", "stat_prefix": name, "cluster": "upstream"}
    return listener(name, {"name": "limit", "typed_config": limiter}, {"name": "proxy", "typed_config": proxy})


@pytest.fixture(scope="module")
def envoy(shared, upstream) -> Envoy:
    tollgate = Tollgate(shared, RULES)
    listeners = [
        limited_connections("fixed", "connections", uuid.uuid4().hex),
        limited_connections("address", "remote_address", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        limited_connections("unlimited", "no_such_key", "x"),
        limited_connections("open", "connections", "x", "nobody"),
        limited_connections("closed", "connections", "x", "nobody", failure_mode_deny=True),
    ]
    clusters = [
        cluster("upstream", upstream.port),
        grpc_cluster("tollgate", tollgate.grpc),
        grpc_cluster("nobody", free_port()),
    ]
    return Envoy(shared, listeners, clusters)


def connect(envoy: Envoy, name: str) -> int | str:
    try:
        return send(envoy.port(name), "/").status
    except (ConnectionResetError, BrokenPipeError, http.client.RemoteDisconnected):
        return REFUSED


def test_exactly_the_limit_of_connections_passes(envoy):
    assert [connect(envoy, "fixed") for _ in range(5)] == [200] * 3 + [REFUSED] * 2
    names = ("total", "ok", "over_limit", "error", "cx_closed")
    stats = {name: envoy.stat(f"ratelimit.fixed.{name}") for name in names}
    assert stats == {"total": 5, "ok": 3, "over_limit": 2, "error": 0, "cx_closed": 2}


def test_the_address_of_the_caller_can_be_limited(envoy):
    assert [connect(envoy, "address") for _ in range(3)] == [200, 200, REFUSED]


def test_a_connection_without_a_limit_passes(envoy):
    assert [connect(envoy, "unlimited") for _ in range(5)] == [200] * 5


def test_an_open_connection_is_counted_once(envoy):
    before = envoy.stat("ratelimit.unlimited.total")
    connection = http.client.HTTPConnection("127.0.0.1", envoy.port("unlimited"))
    for _ in range(5):
        connection.request("GET", "/")
        assert connection.getresponse().read()
    connection.close()
    assert envoy.stat("ratelimit.unlimited.total") - before == 1


def test_without_a_server_the_gate_is_open_or_closed_as_configured(envoy):
    assert [connect(envoy, "open") for _ in range(3)] == [200] * 3
    assert [connect(envoy, "closed") for _ in range(3)] == [REFUSED] * 3
    until(lambda: envoy.stat("ratelimit.open.failure_mode_allowed") == 3, "envoy has counted the errors")
