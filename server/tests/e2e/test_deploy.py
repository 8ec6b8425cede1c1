"""What `deploy/` says is true of a real server: dashboard, alerts, the environment of Istio's sample, the demo's Envoy."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from lib.envoy import binary
from lib.http import send
from lib.prometheus import Prometheus
from lib.redis import Redis
from lib.tollgate import Tollgate
from lib.wait import until

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "deploy" / "compose"
DASHBOARD = json.loads((COMPOSE / "grafana" / "dashboards" / "tollgate.json").read_text())
VARIABLES = {"$__rate_interval": "10s", "$job": "tollgate", "$instance": ".*", "$domain": ".*"}

RULES = """
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: day, requests_per_unit: 3, on_failure: local }
  - key: shadow
    shadow_mode: true
    rate_limit: { unit: day, requests_per_unit: 1 }
"""


def panels() -> list[dict]:
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel["targets"]]


def filled(text: str) -> str:
    for name, value in VARIABLES.items():
        text = text.replace(name, value)
    assert "$" not in text, f"a variable that nobody knows: {text}"
    return text


# --- Grafana's dashboard


def busy(server: Tollgate) -> None:
    """Some traffic of each kind."""
    for number in range(6):
        server.json("shop", {"user": "ann"})
        server.json("shop", {"shadow": "ann"})
        server.json("shop", {"nobody": str(number)})
        server.json("nowhere", {"user": "ann"})


@pytest.fixture(scope="module")
def prometheus(shared) -> Prometheus:
    """Scrapes a server whose memory is full, and one whose Redis is gone: between them every series has something."""
    full = Tollgate(shared, RULES, name="full", settings={"store.memory.max_keys": "1"})
    redis = Redis(shared)
    stranded = Tollgate(shared, RULES, name="stranded", settings={"store.redis.url": redis.address})
    busy(stranded)
    redis.process.kill()
    prometheus = Prometheus(shared, [full.admin, stranded.admin])

    def seen() -> bool:
        for server in (full, stranded):
            busy(server)
        return all(prometheus.query(filled(text)) for text in queries())

    try:
        until(seen, "every query of the dashboard has data", timeout=40)
    except AssertionError:
        pass  # the test below names the queries that have none
    return prometheus


@pytest.mark.parametrize("query", queries())
def test_every_query_of_the_dashboard_has_data(prometheus, query):
    assert prometheus.query(filled(query)), "no data"


def test_the_variables_of_the_dashboard_have_values(prometheus):
    asked = [item for item in DASHBOARD["templating"]["list"] if item["type"] == "query"]
    found = {}
    for item in asked:
        selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", item["definition"]).groups()
        found[item["name"]] = prometheus.values(label, filled(selector))
    assert found["job"] == ["tollgate"] and found["domain"] == ["shop"] and len(found["instance"]) == 2


def test_the_dashboard_is_what_grafana_reads():
    assert DASHBOARD["uid"] and DASHBOARD["title"] and DASHBOARD["schemaVersion"] >= 39
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        own = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & own, f"{panel['title']} lies over another panel"
        cells |= own
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert len(set(refs)) == len(refs), panel["title"]


# --- alerts


def promtool(*words: str) -> None:
    folder = COMPOSE / "prometheus"
    told = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr


def test_the_alerts_are_rules_and_fire_when_they_should():
    promtool("check", "config", "--syntax-only", "prometheus.yml")
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_every_alert_is_tested_both_ways():
    names = re.findall(r"- alert: (\w+)", (COMPOSE / "prometheus" / "alerts.yml").read_text())
    tests = (COMPOSE / "prometheus" / "alerts_test.yml").read_text()
    assert len(names) == len(set(names)) > 0
    for name in names:
        assert f"alertname: {name}, exp_alerts: []" in tests, f"{name}: no history that leaves it quiet"
        assert f"- name: {name}\n" in tests, f"{name}: no history that fires it"


def test_the_names_in_alerts_are_on_the_page(prometheus):
    text = (COMPOSE / "prometheus" / "alerts.yml").read_text()
    for name in set(re.findall(r"\btollgate_\w+", text)):
        assert prometheus.query(name), f"no server has {name}"


# --- manifests


def test_the_environment_of_istios_sample_is_understood(own):
    """Its variables, its folder with symbolic links as Kubernetes makes them, its address for both IP versions."""
    redis = Redis(own)
    folder = own.folder / "data" / "ratelimit" / "config"
    folder.mkdir(parents=True)

    def publish(number: int, limit: int) -> None:
        version = folder / f"..{number}"
        version.mkdir()
        text = f"domain: ratelimit\ndescriptors:\n  - key: PATH\n    rate_limit: {{unit: day, requests_per_unit: {limit}}}\n"
        (version / "config.yaml").write_text(text)
        (folder / "..data_tmp").symlink_to(version.name)
        (folder / "..data_tmp").rename(folder / "..data")

    publish(1, 2)
    (folder / "config.yaml").symlink_to("..data/config.yaml")
    env = {
        "LOG_LEVEL": "debug", "REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": redis.address, "USE_STATSD": "false",
        "RUNTIME_ROOT": str(own.folder / "data"), "RUNTIME_SUBDIRECTORY": "ratelimit",
        "RUNTIME_WATCH_ROOT": "false", "RUNTIME_IGNOREDOTFILES": "true", "HOST": "::", "GRPC_HOST": "::",
    }  # fmt: skip
    command = [os.environ["TOLLGATE_BIN"], "--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
    process = own.start("ratelimit", command, env)

    def ports() -> re.Match | None:
        process.must_run()
        return re.search(r"grpc=\[::\]:\d+ http=\[::\]:(\d+) admin=127\.0\.0\.1:(\d+)", process.log())

    http, admin = map(int, until(ports, "it listens on ::").groups())
    body = json.dumps({"domain": "ratelimit", "descriptors": [{"entries": [{"key": "PATH", "value": "/a"}]}]}).encode()
    ask = lambda: send(http, "/json", method="POST", body=body).status  # noqa: E731
    assert [ask() for _ in range(3)] == [200, 200, 429]
    publish(2, 4)
    until(lambda: b"requests_per_unit=4" in send(admin, "/rlconfig").body, "the new folder is in force")
    assert ask() == 200


def test_the_rules_of_the_manifests_are_good():
    for folder in (COMPOSE / "rules", ROOT / "deploy" / "kubernetes" / "base" / "rules"):
        told = subprocess.run(
            [os.environ["TOLLGATE_BIN"], "check", "--strict", str(folder)], capture_output=True, text=True, timeout=30
        )
        assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("name", ["envoy.yaml", "upstream.yaml"])
def test_envoy_accepts_the_configuration_of_the_demo(name):
    command = [str(binary()), "--mode", "validate", "-c", str(COMPOSE / "envoy" / name)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize("overlay", ["demo", "production"])
def test_kustomize_builds_the_overlays(overlay):
    tool = shutil.which("kustomize")
    if tool is None:
        pytest.skip("kustomize is not installed")
    command = [tool, "build", str(ROOT / "deploy" / "kubernetes" / "overlays" / overlay)]
    told = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr
    for kind in ("Deployment", "PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "ConfigMap"):
        assert f"kind: {kind}\n" in told.stdout, kind
