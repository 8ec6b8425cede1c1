"""Many servers, one limit: Redis behind two servers, in front of them Envoy; and what happens when Redis fails."""

import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from lib.envoy import Envoy, cluster as upstreams, grpc_cluster, header, http_listener, limited, ratelimit, route
from lib.http import send
from lib.redis import Redis, cluster
from lib.tollgate import Tollgate
from lib.wait import until

RULES = """
domain: shop
descriptors:
  - key: error
    rate_limit: { unit: day, requests_per_unit: 6 }
  - key: allow
    rate_limit: { unit: day, requests_per_unit: 6, on_failure: allow }
  - key: deny
    rate_limit: { unit: day, requests_per_unit: 6, on_failure: deny }
  - key: local
    rate_limit: { unit: day, requests_per_unit: 6, on_failure: local }
  - key: bucket
    rate_limit: { unit: day, requests_per_unit: 1, algorithm: token_bucket, burst: 6 }
"""
KEYS = ("error", "allow", "deny", "local", "bucket")
ROUTES = [route(f"/{key}", limited(header("x-id", key))) for key in KEYS]
ERROR, LET_PASS = ("cluster.upstream.ratelimit.error", "cluster.upstream.ratelimit.failure_mode_allowed")


def server(processes, redis: str, rules: str = RULES, name: str = "tollgate", **settings: str) -> Tollgate:
    settings = {"store.redis.url": redis} | {f"store.redis.{key}": value for key, value in settings.items()}
    return Tollgate(processes, rules, name=name, settings=settings)


def servers(processes, redis: str, **settings: str) -> list[Tollgate]:
    return [server(processes, redis, name=f"tollgate-{number}", **settings) for number in range(2)]


def envoy(processes, upstream, fleet: list[Tollgate], **options) -> Envoy:
    """Asks the servers in turn. Open on errors, so that what Envoy lets pass is told from what was refused."""
    options = {"failure_mode_deny": False} | options
    listeners = [http_listener("shop", ratelimit("shop", **options), *ROUTES)]
    clusters = [upstreams("upstream", upstream.port), grpc_cluster("tollgate", *[server.grpc for server in fleet])]
    return Envoy(processes, listeners, clusters)


def ask(front: Envoy, key: str, identity: str) -> int:
    return send(front.port("shop"), f"/{key}", {"x-id": identity}).status


@pytest.fixture(scope="module")
def redis(shared) -> Redis:
    return Redis(shared)


def test_two_servers_share_every_limit(own, upstream, redis):
    front = envoy(own, upstream, servers(own, redis.address), timeout="2s")
    for key in ("error", "bucket"):
        identity = uuid.uuid4().hex
        assert [ask(front, key, identity) for _ in range(9)] == [200] * 6 + [429] * 3, key
    assert front.stat(ERROR) == 0


def test_the_limit_is_exact_when_many_ask_at_once(own, upstream, redis):
    front = envoy(own, upstream, servers(own, redis.address), timeout="2s")
    identity = uuid.uuid4().hex
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: ask(front, "error", identity), range(100)))
    assert (answers.count(200), answers.count(429)) == (6, 94)


def test_servers_share_a_cluster(own, upstream):
    nodes = cluster(own)
    seeds = ",".join(node.address for node in nodes[:2])
    front = envoy(own, upstream, servers(own, seeds, kind="cluster"), timeout="2s")
    for _ in range(10):
        identity = uuid.uuid4().hex
        assert [ask(front, "error", identity) for _ in range(8)] == [200] * 6 + [429] * 2
    for _ in range(50):
        ask(front, "error", uuid.uuid4().hex)
    assert all(node.keys() for node in nodes), "the counters are spread"


def test_without_redis_each_rule_has_its_own_answer(own, upstream):
    redis = Redis(own)
    fleet = servers(own, redis.address)
    front = envoy(own, upstream, fleet)
    until(lambda: [server.metric("tollgate_store_servers") for server in fleet] == [2, 2], "the servers know each other")
    assert ask(front, "error", "a") == 200
    redis.process.kill()

    assert [ask(front, "allow", "a") for _ in range(10)] == [200] * 10
    assert [ask(front, "deny", "a") for _ in range(4)] == [429] * 4
    # half of six on each of the two servers
    local = [ask(front, "local", "a") for _ in range(12)]
    assert (local.count(200), local.count(429)) == (6, 6)
    before = front.stat(LET_PASS)
    assert [ask(front, "error", "a") for _ in range(4)] == [200] * 4
    assert front.stat(LET_PASS) == before + 4, "an error is Envoy's to decide"
    page = 'tollgate_fallbacks_total{answer="share",cause="open",domain="shop",rule="local"}'
    assert sum(server.metric(page) for server in fleet) > 0

    redis.start()
    until(lambda: all(server.metric("tollgate_store_open") == 0 for server in fleet), "the probes succeed")
    identity = uuid.uuid4().hex
    assert [ask(front, "deny", identity) for _ in range(7)] == [200] * 6 + [429]


def test_a_redis_that_hangs_costs_no_caller_its_deadline(own, upstream):
    redis = Redis(own)
    fleet = [server(own, redis.address)]
    front = envoy(own, upstream, fleet, timeout="0.25s")
    assert ask(front, "local", "a") == 200
    redis.process.signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        answers = [ask(front, "deny", "a") for _ in range(20)]
        took = time.monotonic() - began
    finally:
        redis.process.signal(signal.SIGCONT)
    assert answers == [429] * 20, "every answer came from the rule's policy, none from Envoy's"
    assert front.stat(ERROR) == 0
    # three calls wait in vain before nobody asks any more
    assert took < 3
    until(lambda: fleet[0].metric("tollgate_store_open") == 0, "the probes succeed")
    assert ask(front, "deny", uuid.uuid4().hex) == 200


@pytest.mark.parametrize(
    ("policy", "expected"), [("error", {200}), ("allow", {200}), ("deny", {200, 429}), ("local", {200, 429})]
)
def test_overload_is_answered_by_the_domain(own, upstream, policy, expected):
    redis = Redis(own)
    rules = RULES.replace("domain: shop", f"domain: shop\non_overload: {policy}")
    fleet = [server(own, redis.address, rules, max_waiting="1", call_timeout="5s")]
    front = envoy(own, upstream, fleet, timeout="4s")
    assert ask(front, "error", "a") == 200
    # Redis takes its time: one request waits for it, all others find the queue full
    redis.process.signal(signal.SIGSTOP)
    with ThreadPoolExecutor(12) as pool:
        first = pool.submit(ask, front, "error", "b")
        until(lambda: fleet[0].metric("tollgate_store_waiting") == 1, "one request waits")
        answers = list(pool.map(lambda _: ask(front, "error", "b"), range(40)))
        redis.process.signal(signal.SIGCONT)
        answers.append(first.result())
    assert set(answers) == expected
    let_pass = front.stat(LET_PASS)
    assert let_pass == (40 if policy == "error" else 0)
    if policy == "local":
        # its share, which is the whole limit of the only server, and the one that Redis admitted
        assert answers.count(200) == 7
    cause = 'tollgate_store_faults_total{cause="overloaded"}'
    assert fleet[0].metric(cause) == 40


def test_a_refused_key_asks_redis_no_more(own, upstream, redis):
    alone = server(own, redis.address)
    front = envoy(own, upstream, [alone], timeout="2s")
    assert [ask(front, "error", "denied") for _ in range(7)] == [200] * 6 + [429]
    calls = alone.metric("tollgate_store_calls_total")
    assert [ask(front, "error", "denied") for _ in range(50)] == [429] * 50
    assert alone.metric("tollgate_store_calls_total") == calls
    assert alone.metric("tollgate_denials_saved_total") >= 50


def test_a_server_waits_for_redis_or_not_as_it_was_told(own):
    redis = Redis(own)
    redis.process.kill()
    waiting, serving = (server(own, redis.address, name=start, at_start=start) for start in ("wait", "serve"))
    assert send(waiting.http, "/healthcheck").status == 500
    assert send(waiting.http, "/readyz").status == 503
    assert send(serving.http, "/healthcheck").status == 200
    assert serving.json("shop", {"deny": "a"}).status == 429
    redis.start()
    until(lambda: send(waiting.http, "/healthcheck").status == 200, "Redis is there", timeout=10)
    assert waiting.json("shop", {"deny": "a"}).status == 200
