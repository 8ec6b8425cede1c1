"""What callers of Envoy notice when a server crashes, leaves, or ends connections: as little as possible."""

import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

from lib.envoy import Envoy, cluster, grpc_cluster, header, http_listener, limited, ratelimit, route
from lib.http import send, send_many, statuses
from lib.load import Load, through_http
from lib.processes import Processes, free_port
from lib.tollgate import Tollgate
from lib.upstream import Upstream
from lib.wait import until

RULES = """
domain: shop
descriptors:
  - key: three
    rate_limit: { unit: day, requests_per_unit: 3 }
  - key: plenty
    rate_limit: { unit: day, requests_per_unit: 4000000000 }
  - key: slow
    rate_limit: { unit: minute, requests_per_unit: 60, algorithm: leaky_bucket, queue: 5, max_hold: 5s }
"""

ROUTES = [route(f"/{key}", limited(header("x-id", key))) for key in ("three", "plenty", "slow")]
LISTENERS = [
    http_listener("open", ratelimit("shop", failure_mode_deny=False), *ROUTES),
    http_listener("closed", ratelimit("shop"), *ROUTES),
    http_listener("closed_503", ratelimit("shop", status_on_error={"code": "ServiceUnavailable"}), *ROUTES),
    http_listener("hasty", ratelimit("shop", timeout="0.1s", failure_mode_deny=False), *ROUTES),
    http_listener("patient", ratelimit("shop", timeout="10s"), *ROUTES),
]
OK, OVER, ERROR, LET_PASS = (
    f"cluster.upstream.ratelimit.{name}" for name in ("ok", "over_limit", "error", "failure_mode_allowed")
)


def envoy(processes: Processes, upstream: Upstream, *ports: int, **cluster_options) -> Envoy:
    clusters = [cluster("upstream", upstream.port), grpc_cluster("tollgate", *ports, **cluster_options)]
    return Envoy(processes, LISTENERS, clusters)


def three(front: Envoy, listener: str, identity: str) -> int:
    return send(front.port(listener), "/three", {"x-id": identity}).status


def test_a_crash_opens_or_closes_the_gate_as_configured(own, upstream):
    server = Tollgate(own, RULES)
    front = envoy(own, upstream, server.grpc)
    assert three(front, "open", "a") == 200
    server.process.kill()

    assert [three(front, "open", "a") for _ in range(5)] == [200] * 5
    assert [three(front, "closed", "a") for _ in range(5)] == [500] * 5
    assert three(front, "closed_503", "a") == 503
    assert (front.stat(ERROR), front.stat(LET_PASS)) == (11, 5)


def test_limits_hold_again_within_seconds_of_a_restart(own, upstream):
    server = Tollgate(own, RULES, grpc_port=free_port())
    front = envoy(own, upstream, server.grpc)
    assert [three(front, "closed", "a") for _ in range(4)] == [200, 200, 200, 429]
    server.process.kill()
    assert three(front, "closed", "a") == 500
    server.start()

    until(lambda: three(front, "closed", uuid.uuid4().hex) == 200, "envoy has connected again", timeout=10)
    for listener in ("open", "closed"):
        assert [three(front, listener, listener) for _ in range(5)] == [200, 200, 200, 429, 429]


def test_a_server_that_hangs_costs_the_deadline_and_no_more(own, upstream):
    server = Tollgate(own, RULES)
    front = envoy(own, upstream, server.grpc)
    assert three(front, "hasty", "a") == 200
    server.process.signal(signal.SIGSTOP)
    began = time.monotonic()
    assert [three(front, "hasty", "a") for _ in range(5)] == [200] * 5
    # five deadlines of 100 ms, which Envoy's timers may cut by a few milliseconds each
    assert 0.4 <= time.monotonic() - began < 3
    server.process.signal(signal.SIGCONT)

    def answered() -> bool:
        errors = front.stat(ERROR)
        return three(front, "hasty", uuid.uuid4().hex) == 200 and front.stat(ERROR) == errors

    until(answered, "the server answers in time again")
    until(lambda: [three(front, "hasty", "b") for _ in range(4)][-1] == 429, "the limit holds again")


def test_a_server_that_leaves_under_load_costs_no_request(own, upstream):
    leaving = Tollgate(own, RULES, name="leaving", settings={"shutdown.drain_delay": "1s"})
    staying = Tollgate(own, RULES, name="staying")
    health_checks = {
        "timeout": "1s",
        "interval": "0.1s",
        "no_traffic_interval": "0.1s",
        "healthy_threshold": 1,
        "unhealthy_threshold": 1,
        "grpc_health_check": {"service_name": "ratelimit"},
    }
    front = envoy(own, upstream, leaving.grpc, staying.grpc, health_checks=[health_checks])
    until(lambda: front.stat("cluster.tollgate.membership_healthy") == 2, "both servers are healthy")
    served = 'tollgate_requests_total{api="rls",result="ok"}'

    with Load(through_http(front.port("closed"), "/plenty", {"x-id": "a"})) as load:
        until(lambda: leaving.metric(served) > 0 and staying.metric(served) > 0, "both servers are asked")
        leaving.process.signal(signal.SIGTERM)
        until(lambda: front.stat("cluster.tollgate.membership_healthy") == 1, "envoy sees that one leaves")
        load.more(100)
        assert leaving.process.wait(10) == 0
        load.more(100)

    assert set(load.answers) == {200}
    assert front.stat(ERROR) == 0


def test_a_server_that_leaves_finishes_the_calls_that_it_holds(own, upstream):
    server = Tollgate(own, RULES)
    front = envoy(own, upstream, server.grpc)
    decided = 'tollgate_decisions_total{domain="shop",outcome="allowed",rule="slow"}'
    with ThreadPoolExecutor() as threads:
        answers = threads.submit(send_many, 3, front.port("patient"), "/slow", {"x-id": "a"})
        until(lambda: server.metric(decided) == 3, "one call is answered and two are held")
        server.process.signal(signal.SIGTERM)
        assert statuses(answers.result()) == [200] * 3
    assert server.process.wait(10) == 0


def test_a_limited_age_of_connections_costs_no_request(own, upstream):
    server = Tollgate(own, RULES, settings={"grpc.max_connection_age": "1s"})
    front = envoy(own, upstream, server.grpc)
    with Load(through_http(front.port("closed"), "/plenty", {"x-id": "a"})) as load:
        until(lambda: front.stat("cluster.tollgate.upstream_cx_total") >= 6, "three connections a worker", timeout=20)
        load.more(100)

    assert set(load.answers) == {200}
    assert front.stat(ERROR) == 0
    assert front.stat("cluster.tollgate.upstream_cx_close_notify") >= 2
