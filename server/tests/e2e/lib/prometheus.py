"""A real Prometheus that scrapes what it is told to, and answers queries."""

import json
import urllib.parse

from .http import send
from .processes import Processes, free_port
from .wait import until

SETTINGS = """
global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
scrape_configs:
  - job_name: tollgate
    static_configs:
      - targets: [{targets}]
"""


class Prometheus:
    """A running `prometheus`; it knows its targets as the job `tollgate`."""

    def __init__(self, processes: Processes, ports: list[int]):
        folder = processes.folder / "prometheus"
        folder.mkdir()
        targets = ", ".join(f'"127.0.0.1:{port}"' for port in ports)
        (folder / "prometheus.yml").write_text(SETTINGS.format(targets=targets))
        self.port = free_port()
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        command += [f"--web.listen-address=127.0.0.1:{self.port}"]
        self.process = processes.start("prometheus", command)

        def ready() -> bool:
            self.process.must_run()
            return send(self.port, "/-/ready").status == 200

        until(ready, "Prometheus is ready", timeout=30)

    def query(self, text: str) -> list[dict]:
        """The series of an instant query; a query that is refused is an error."""
        answer = send(self.port, "/api/v1/query?" + urllib.parse.urlencode({"query": text})).json()
        assert answer["status"] == "success", f"{text}: {answer}"
        return answer["data"]["result"]

    def values(self, label: str, selector: str) -> list[str]:
        """The values of a label, as a dashboard's variable asks for them."""
        query = urllib.parse.urlencode({"match[]": selector})
        return json.loads(send(self.port, f"/api/v1/label/{label}/values?{query}").body)["data"]
