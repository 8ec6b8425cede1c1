"""Whether requests should come here, as probes and balancers ask: over gRPC and HTTP."""

import signal

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from lib.http import send
from lib.rls import Client, Code, descriptor
from lib.tollgate import Tollgate
from lib.wait import until

RULES = """
domain: shop
descriptors:
  - key: ten
    rate_limit: { unit: day, requests_per_unit: 10 }
"""
BAD_RULES = "domain: ["
RLS = "envoy.service.ratelimit.v3.RateLimitService"
SERVICES = ["", "ratelimit", RLS]
Serving = health_pb2.HealthCheckResponse.ServingStatus


class Health:
    """The health service of one server."""

    def __init__(self, server: Tollgate):
        self.channel = grpc.insecure_channel(server.address)
        self.stub = health_pb2_grpc.HealthStub(self.channel)

    def check(self, service: str) -> int:
        return self.stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5).status

    def watch(self, service: str):
        """The statuses as they come."""
        return self.stub.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)


@pytest.fixture
def health():
    open_channels = []

    def of(server: Tollgate) -> Health:
        found = Health(server)
        open_channels.append(found.channel)
        return found

    yield of
    for channel in open_channels:
        channel.close()


@pytest.fixture(scope="module")
def server(shared) -> Tollgate:
    return Tollgate(shared, RULES)


def probes(server: Tollgate) -> dict[str, tuple[int, bytes]]:
    answers = {path: send(server.http, path) for path in ("/healthcheck", "/livez", "/readyz")}
    return {path: (answer.status, answer.body) for path, answer in answers.items()}


@pytest.mark.parametrize("service", SERVICES)
def test_check_and_watch_know_every_name(server, health, service):
    asked = health(server)
    assert asked.check(service) == Serving.SERVING
    stream = asked.watch(service)
    assert next(stream).status == Serving.SERVING
    stream.cancel()


def test_an_unknown_name_is_not_found(server, health):
    with pytest.raises(grpc.RpcError) as failed:
        health(server).check("no.such.Service")
    assert failed.value.code() == grpc.StatusCode.NOT_FOUND


def test_http_probes_are_answered_as_by_the_reference(server):
    assert probes(server) == {"/healthcheck": (200, b"OK"), "/livez": (200, b"ok\n"), "/readyz": (200, b"ok\n")}
    assert send(server.http, "/no/such/path").status == 404
    assert send(server.http, "/healthcheck", method="POST", body=b"x").status == 200


def test_a_server_that_leaves_says_so_before_it_stops_serving(own, health):
    server = Tollgate(own, RULES, settings={"shutdown.drain_delay": "1s"})
    asked, caller = health(server), Client(server.address)
    streams = {service: asked.watch(service) for service in ("ratelimit", RLS)}
    assert [next(stream).status for stream in streams.values()] == [Serving.SERVING] * 2
    server.process.signal(signal.SIGTERM)

    assert [next(stream).status for stream in streams.values()] == [Serving.NOT_SERVING] * 2
    assert [asked.check(service) for service in ("ratelimit", RLS)] == [Serving.NOT_SERVING] * 2
    assert asked.check("") == Serving.SERVING
    found = probes(server)
    assert found["/healthcheck"] == (500, b"")
    assert found["/readyz"] == (503, b"shutting down\n")
    assert found["/livez"][0] == 200
    # not ready is not closed: who has not heard yet is still served
    assert caller.ask("shop", descriptor(("ten", "x"))).overall_code == Code.OK
    # whoever watches need not hang up for the server to leave
    assert server.process.wait(10) == 0
    caller.close()


def test_an_interrupt_ends_the_server_as_well(own):
    server = Tollgate(own, RULES)
    server.process.signal(signal.SIGINT)
    assert server.process.wait(5) == 0


def test_without_rules_the_server_is_healthy_as_with_the_reference_but_not_ready(own):
    server = Tollgate(own, BAD_RULES)
    found = probes(server)
    assert (found["/healthcheck"], found["/readyz"]) == ((200, b"OK"), (503, b"no rules loaded\n"))


def test_health_can_wait_for_the_first_rules(own, health):
    server = Tollgate(own, BAD_RULES, env={"HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED": "true"})
    asked = health(server)
    assert asked.check("ratelimit") == Serving.NOT_SERVING
    assert probes(server)["/healthcheck"] == (500, b"")
    stream = asked.watch("ratelimit")
    assert next(stream).status == Serving.NOT_SERVING

    (own.folder / "tollgate-rules" / "rules.yaml").write_text(RULES)
    assert next(stream).status == Serving.SERVING
    until(lambda: probes(server)["/healthcheck"] == (200, b"OK"), "the server is healthy")
