"""Rules change under traffic: nobody notices but those whom the new limits concern."""

import signal
import uuid

import pytest

from lib.envoy import Envoy, cluster, grpc_cluster, header, http_listener, limited, ratelimit, route, service
from lib.http import send
from lib.load import Load, through_http
from lib.rules_folder import WAYS, RulesFolder
from lib.tollgate import Tollgate
from lib.wait import until


def rules(limit: int) -> str:
    return f"""
domain: shop
descriptors:
  - key: some
    rate_limit: {{ unit: day, requests_per_unit: {limit} }}
  - key: plenty
    rate_limit: {{ unit: day, requests_per_unit: 4000000000 }}
"""


BAD = """
domain: shop
descriptors:
  - key: some
    rate_limit: { unit: fortnight, requests_per_unit: 3 }
"""
BAD_TEXT = "invalid rate limit unit 'fortnight'"
GOOD_LOADS, BAD_LOADS = (f'tollgate_config_loads_total{{result="{result}"}}' for result in ("success", "error"))


class Served:
    """A server whose rules come in one way, and a listener of Envoy that asks it."""

    def __init__(self, server: Tollgate, folder: RulesFolder, name: str):
        self.server, self.folder, self.name = server, folder, name
        self.envoy: Envoy

    @property
    def port(self) -> int:
        return self.envoy.port(self.name)

    def ask(self, identity: str) -> int:
        return send(self.port, "/some", {"x-id": identity}).status

    def publish(self, limit: int) -> None:
        """Changes the limit and waits until it is in force."""
        self.folder.publish(rules(limit))
        in_force = f"shop.some: unit=DAY requests_per_unit={limit},"
        until(lambda: in_force in self.server.rlconfig(), f"a limit of {limit} is in force")


@pytest.fixture(scope="module")
def all_served(shared, upstream) -> dict[str, Served]:
    served = {}
    for way in WAYS:
        folder = way(shared.folder / "rules" / way.__name__)
        folder.publish(rules(3))
        server = Tollgate(shared, folder.config, name=way.__name__, env=folder.env)
        served[way.__name__] = Served(server, folder, way.__name__)
    routes = [route(f"/{key}", limited(header("x-id", key))) for key in ("some", "plenty")]
    listeners = [http_listener(name, ratelimit("shop", service(name)), *routes) for name in served]
    clusters = [grpc_cluster(name, each.server.grpc) for name, each in served.items()]
    envoy = Envoy(shared, listeners, [cluster("upstream", upstream.port), *clusters])
    for each in served.values():
        each.envoy = envoy
    return served


@pytest.fixture(params=[way.__name__ for way in WAYS])
def served(all_served, request) -> Served:
    served = all_served[request.param]
    served.publish(3)
    return served


@pytest.fixture
def traffic(served):
    """Callers far from their limit, who must not notice anything."""
    with Load(through_http(served.port, "/plenty", {"x-id": uuid.uuid4().hex}), threads=2) as load:
        yield load
        load.more(50)
    assert set(load.answers) == {200}


def test_a_raised_limit_applies_and_keeps_what_was_used(served, traffic):
    assert [served.ask("a") for _ in range(4)] == [200, 200, 200, 429]
    served.publish(10)
    # four are used: the reference's accounting counts the refused one
    assert [served.ask("a") for _ in range(7)] == [200] * 6 + [429]


def test_a_lowered_limit_applies_at_once(served, traffic):
    assert [served.ask("b") for _ in range(2)] == [200, 200]
    served.publish(2)
    assert served.ask("b") == 429
    assert [served.ask("c") for _ in range(3)] == [200, 200, 429]


def test_flipping_a_limit_refills_nothing(served, traffic):
    assert [served.ask("d") for _ in range(3)] == [200] * 3
    for limit in (1, 3):
        served.publish(limit)
    assert served.ask("d") == 429


def test_a_bad_file_keeps_the_last_good_rules_until_it_is_mended(served, traffic):
    server = served.server
    bad = server.metric(BAD_LOADS)
    served.folder.publish(BAD)
    until(lambda: BAD_TEXT in server.rlconfig(), "/rlconfig tells what is wrong")
    assert "shop.some: unit=DAY requests_per_unit=3," in server.rlconfig()
    assert server.metric(BAD_LOADS) > bad
    assert server.metric("tollgate_config_last_load_ok") == 0
    assert "rules.yaml:5:25: " + BAD_TEXT in server.log()
    assert [served.ask("e") for _ in range(4)] == [200, 200, 200, 429]

    served.publish(5)
    assert server.metric("tollgate_config_last_load_ok") == 1
    assert BAD_TEXT not in server.rlconfig()
    assert [served.ask("f") for _ in range(6)] == [200] * 5 + [429]


def test_a_hangup_loads_the_rules_again(served, traffic):
    good = served.server.metric(GOOD_LOADS)
    served.server.process.signal(signal.SIGHUP)
    until(lambda: served.server.metric(GOOD_LOADS) > good, "the rules are loaded again")
