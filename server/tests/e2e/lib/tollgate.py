"""The server under test."""

import json
import os
import re
from pathlib import Path

from .http import Response, send
from .processes import Process, Processes
from .wait import until

BINARY = os.environ.get("TOLLGATE_BIN", "tollgate")
PORTS = re.compile(r"\bgrpc=(\S+) http=127\.0\.0\.1:(\d+) admin=127\.0\.0\.1:(\d+)")


class Tollgate:
    """A running `tollgate`. It can be killed and started again on the same gRPC port."""

    def __init__(
        self,
        processes: Processes,
        rules: str | Path | None = None,
        *,
        name: str = "tollgate",
        env: dict[str, str] | None = None,
        settings: dict[str, str] | None = None,
        grpc_port: int = 0,
        binary: str = BINARY,
    ):
        """`rules` is the text of one rules file or a folder; None leaves the folder to `env`."""
        self._processes, self._name = processes, name
        self._env, self._settings = env, settings or {}
        self._grpc_port, self._binary = grpc_port, binary
        self._config: list[str] = []
        if isinstance(rules, str):
            folder = processes.folder / f"{name}-rules"
            folder.mkdir()
            (folder / "rules.yaml").write_text(rules)
            self._config = ["--config", str(folder)]
        elif rules is not None:
            self._config = ["--config", str(rules)]
        self.process: Process
        self.start()

    def start(self) -> None:
        """Starts the process and waits until it listens."""
        command = [self._binary, *self._config, "--host", "127.0.0.1", "--grpc-port", str(self._grpc_port)]
        command += ["--http-port", "0", "--admin-port", "0"]
        for key, value in self._settings.items():
            command += ["--set", f"{key}={value}"]
        seen = len(self.process.log()) if hasattr(self, "process") else 0
        self.process = process = self._processes.start(self._name, command, self._env)

        def listening() -> re.Match | None:
            process.must_run()
            return PORTS.search(process.log(), seen)

        grpc, http, admin = until(listening, f"{self._name} listens").groups()
        self.http, self.admin = int(http), int(admin)
        # a Unix socket has no port
        self.grpc = int(grpc.rpartition(":")[2]) if not grpc.startswith("unix:") else 0

    @property
    def address(self) -> str:
        """Where gRPC listens."""
        return f"127.0.0.1:{self.grpc}"

    def log(self) -> str:
        return self.process.log()

    def rlconfig(self) -> str:
        return send(self.admin, "/rlconfig").body.decode()

    def metric(self, series: str) -> float:
        """The value of one series, such as `tollgate_config_loads_total{result="error"}`; 0 if absent."""
        page = send(self.admin, "/metrics").body.decode()
        for line in page.splitlines():
            if line.startswith(series + " "):
                return float(line.rsplit(" ", 1)[1])
        return 0.0

    def json(self, domain: str, entries: dict[str, str], **more) -> Response:
        """Asks over HTTP about one descriptor."""
        descriptor = {"entries": [{"key": key, "value": value} for key, value in entries.items()]} | more
        body = json.dumps({"domain": domain, "descriptors": [descriptor]}).encode()
        return send(self.http, "/json", method="POST", body=body)
