"""One trace from the client through Envoy to the server, and the page as Prometheus' own tool reads it."""

import shutil
import subprocess

import pytest

from lib.collector import CLIENT, SERVER, Collector
from lib.envoy import Envoy, cluster, grpc_cluster, header, http_listener, limited, ratelimit, route
from lib.http import send
from lib.tollgate import Tollgate
from lib.wait import until

RULES = """
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: day, requests_per_unit: 2 }
"""
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
CALL = "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"


@pytest.fixture(scope="module")
def collector():
    collector = Collector()
    yield collector
    collector.close()


@pytest.fixture(scope="module")
def tollgate(shared, collector) -> Tollgate:
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        "OTEL_SERVICE_NAME": "limits",
    }
    return Tollgate(shared, RULES, env=env)


@pytest.fixture(scope="module")
def envoy(shared, tollgate, upstream, collector) -> Envoy:
    tracer = {
        "@type": "type.googleapis.com/envoy.config.trace.v3.OpenTelemetryConfig",
        "grpc_service": {"envoy_grpc": {"cluster_name": "collector"}},
        "service_name": "envoy",
    }
    tracing = {"provider": {"name": "envoy.tracers.opentelemetry", "typed_config": tracer}}
    listeners = [
        http_listener("traced", ratelimit("shop"), route("/ask", limited(header("x-user", "user"))), tracing=tracing),
    ]
    clusters = [
        cluster("upstream", upstream.port),
        grpc_cluster("tollgate", tollgate.grpc),
        grpc_cluster("collector", collector.port),
    ]
    return Envoy(shared, listeners, clusters)


def ask(envoy: Envoy, flags: str, user: str) -> int:
    traceparent = f"00-{TRACE}-{CALLER}-{flags}"
    return send(envoy.port("traced"), "/ask", {"x-user": user, "traceparent": traceparent}).status


def test_the_servers_span_belongs_to_envoys(envoy, collector):
    assert ask(envoy, "00", "nobody") == 200
    assert ask(envoy, "01", "ann") == 200
    ours = until(lambda: [span for span in collector.spans("limits") if span.name == CALL], "a span", timeout=30)
    assert [(span.trace, span.kind) for span in ours] == [(TRACE, SERVER)], "one call was followed, one was not"
    envoys = until(lambda: [span for span in collector.spans("envoy") if span.id == ours[0].parent], "its parent",
                   timeout=30)
    assert (envoys[0].trace, envoys[0].kind) == (TRACE, CLIENT)
    steps = [span for span in collector.spans("limits") if span.name == "tollgate.decide"]
    assert [(span.trace, span.parent) for span in steps] == [(TRACE, ours[0].id)]


def test_prometheus_own_tool_accepts_the_page(shared, tollgate, envoy):
    promtool = shutil.which("promtool")
    assert promtool, "promtool is in Debian's package prometheus"
    for user in ("a", "a", "a"):
        ask(envoy, "00", user)
    page = send(tollgate.admin, "/metrics").body
    assert b"tollgate_decisions_total" in page and b"rpc_server_call_duration_seconds_bucket" in page
    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr.decode()
