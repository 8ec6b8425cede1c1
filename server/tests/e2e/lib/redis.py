"""Real Redis servers: one, or a cluster of three masters as README makes it."""

import socket
import subprocess

from .processes import Process, Processes, free_port
from .wait import until

OPTIONS = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]


class Redis:
    """A running `redis-server`. It can be killed and started again on its port."""

    def __init__(self, processes: Processes, *options: str, name: str = "redis", port: int = 0):
        self._processes, self._name, self._options = processes, name, options
        self.port = port or free_port()
        self.folder = processes.folder / f"{name}-{self.port}"
        self.folder.mkdir()
        self.process: Process
        self.start()

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--dir", str(self.folder), *OPTIONS, *self._options]
        self.process = self._processes.start(f"{self._name}-{self.port}", command)
        until(lambda: self.cli("PING") == "PONG", f"{self._name} answers")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def cli(self, *words: str) -> str:
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()

    def keys(self) -> list[str]:
        return self.cli("KEYS", "*").split()


def cluster(processes: Processes) -> list[Redis]:
    """Three masters that have all slots."""
    options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "1000"]
    # the bus listens 10000 ports higher
    nodes = [Redis(processes, *options, name="node", port=low_port()) for _ in range(3)]
    addresses = [node.address for node in nodes]
    create = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
    subprocess.run(create, check=True, capture_output=True, timeout=30)
    until(lambda: all("cluster_state:ok" in node.cli("CLUSTER", "INFO") for node in nodes), "the cluster is whole")
    return nodes


def low_port() -> int:
    """A free port whose port for the cluster's bus is free too."""
    for _ in range(200):
        port = free_port()
        if port < 55_000 and can_bind(port + 10_000):
            return port
    raise RuntimeError("no free port below 55000")


def can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
