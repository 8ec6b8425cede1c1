"""Envoy speaks mTLS to the server: versions, names, domains that are bound to it, new certificates under load."""

import json
import shutil
from pathlib import Path

import pytest

from lib.certificates import Authority
from lib.envoy import Envoy, cluster, fixed, grpc_cluster, http_listener, limited, ratelimit, route, service
from lib.http import send
from lib.load import Load, through_http
from lib.tollgate import Tollgate
from lib.wait import until

RULES = """
domain: shop
descriptors:
  - key: plenty
    rate_limit: { unit: day, requests_per_unit: 4000000000 }
  - key: none
    rate_limit: { unit: day, requests_per_unit: 0 }
"""
DONE, FAILED = (f'tollgate_tls_handshakes_total{{port="grpc",result="{result}"}}' for result in ("ok", "failed"))


def tls_cluster(name: str, port: int, authority: Authority, pair: tuple[Path, Path] | None, **parameters) -> dict:
    """A cluster that trusts `authority` and shows `pair`."""
    validation = {
        "trusted_ca": {"filename": str(authority.pem)},
        "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": "tollgate.example"}}],
    }
    context: dict = {"validation_context": validation, "tls_params": parameters}
    if pair:
        cert, key = map(str, pair)
        context["tls_certificates"] = [{"certificate_chain": {"filename": cert}, "private_key": {"filename": key}}]
    socket = {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": context,
        "sni": "tollgate.example",
    }
    return grpc_cluster(name, port, transport_socket={"name": "tls", "typed_config": socket})


class World:
    """A server that wants certificates, and an Envoy with one listener for each way to reach it."""

    def __init__(self, processes, upstream):
        folder = processes.folder
        self.authority = Authority(folder / "certificates")
        self.served = self.authority.sign("server", "DNS:tollgate.example")
        shop = self.authority.sign("shop", "URI:spiffe://mesh/ns/shop/envoy")
        other = self.authority.sign("other", "DNS:other.mesh.example")
        nobody = self.authority.sign("nobody", "DNS:evil.example")
        stranger = Authority(folder / "strangers").sign("stranger", "URI:spiffe://mesh/ns/shop/envoy")
        cert, key = map(str, self.served)
        env = {
            "GRPC_SERVER_USE_TLS": "true",
            "GRPC_SERVER_TLS_CERT": cert,
            "GRPC_SERVER_TLS_KEY": key,
            "GRPC_CLIENT_TLS_CACERT": str(self.authority.pem),
            "TOLLGATE__GRPC__TLS__ALLOWED_NAMES": json.dumps(["spiffe://mesh/ns/*", "*.mesh.example"]),
            "TOLLGATE__ACCESS__IDENTITIES": json.dumps(
                [
                    {"identity": "spiffe://mesh/ns/shop/*", "domains": ["shop*"]},
                    {"identity": "*.mesh.example", "domains": ["bank"]},
                ]
            ),
        }
        self.server = Tollgate(processes, RULES, env=env)
        ways = {
            "shop": (shop, {}),
            "tls12": (shop, {"tls_maximum_protocol_version": "TLSv1_2"}),
            "tls13": (shop, {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}),
            "other": (other, {}),
            "nobody": (nobody, {}),
            "stranger": (stranger, {}),
            "bare": (None, {}),
        }
        listeners = [self.listener(name) for name in ways]
        port = self.server.grpc
        clusters = [
            tls_cluster(f"to-{name}", port, self.authority, pair, **parameters)
            for name, (pair, parameters) in ways.items()
        ]
        self.envoy = Envoy(processes, listeners, [cluster("upstream", upstream.port), *clusters])

    @staticmethod
    def listener(name: str) -> dict:
        routes = [route(f"/{key}", limited(fixed(key, "x"))) for key in ("plenty", "none")]
        return http_listener(name, ratelimit("shop", service(f"to-{name}")), *routes)

    def ask(self, name: str, path: str = "/plenty") -> int:
        return send(self.envoy.port(name), path).status

    def metric(self, series: str) -> int:
        for line in send(self.server.admin, "/metrics").body.decode().splitlines():
            key, _, value = line.rpartition(" ")
            if key == series:
                return int(value)
        return 0


@pytest.fixture(scope="module")
def world(shared, upstream) -> World:
    return World(shared, upstream)


@pytest.mark.parametrize("name", ["shop", "tls12", "tls13"])
def test_both_versions_decide(world: World, name: str):
    assert (world.ask(name), world.ask(name, "/none")) == (200, 429)
    assert world.metric(DONE) > 0


@pytest.mark.parametrize("name", ["nobody", "stranger", "bare"])
def test_who_has_no_good_certificate_gets_no_connection(world: World, name: str):
    before = world.metric(FAILED)
    # the filter is closed on errors
    assert world.ask(name) == 500
    assert world.metric(FAILED) > before


def test_a_domain_of_somebody_else_is_refused(world: World):
    assert world.ask("other") == 500
    assert world.metric('tollgate_requests_total{api="rls",result="forbidden"}') > 0


def test_new_certificates_under_load_lose_nothing(world: World):
    reloads = 'tollgate_tls_reloads_total{port="grpc",result="success"}'
    before = world.metric(reloads)
    with Load(through_http(world.envoy.port("shop"), "/plenty")) as load:
        for turn in range(3):
            cert, key = world.authority.sign(f"next-{turn}", "DNS:tollgate.example")
            shutil.copy(cert, world.served[0])
            shutil.copy(key, world.served[1])
            until(lambda turn=turn: world.metric(reloads) >= before + turn + 1, "they are taken over", timeout=30)
            load.more(50)
    assert set(load.answers) == {200}, load.answers
    # a connection of its own, with the new certificate
    assert world.ask("tls13") == 200
