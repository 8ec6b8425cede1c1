#!/usr/bin/env python3
"""CPU time per request with all telemetry on (calls timed, 1 % of the traces followed and sent, metrics sent every
second) beside all of it off, in the same program.

All kinds run alternately, pinned to core 0, the generator to core 1, all on loopback. Prints medians over the rounds
of microseconds of server CPU per request, and of the ratio to "off" inside each round. Needs h2load (Debian:
nghttp2-client), two cores, and the release build. `--before` names another program, such as that of an earlier
version, which is measured too.

    server/benches/telemetry.py [--rounds 7] [--seconds 3] [--connections 4] [--before PROGRAM]
"""

import argparse
import http.server
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time

import rls

OFF = ["metrics.durations=false", "log.refusals=0"]


def on(collector):
    return [
        f"telemetry.otlp.endpoint=http://127.0.0.1:{collector}",
        "telemetry.otlp.protocol=http/protobuf",
        "telemetry.otlp.metrics_interval=1s",
        "telemetry.traces.sampler=parentbased_traceidratio",
        "telemetry.traces.ratio=0.01",
    ]


class Sink(http.server.BaseHTTPRequestHandler):
    """Takes everything, and counts the bytes."""

    protocol_version = "HTTP/1.1"
    taken = 0

    def do_POST(self):
        Sink.taken += len(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(rls.Server):
    """One server process on core 0 with these settings."""

    def __init__(self, program, settings, folder):
        self.kind = "tollgate"
        ports = ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
        command = [program, "--config", folder, "--host", "127.0.0.1", *ports]
        for setting in settings:
            command += ["--set", setting]
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *map(str, command)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.address = self.find_address()


def measure(program, settings, arguments, folder, body):
    with Server(program, settings, folder) as server:
        rls.h2load(server.address, arguments.connections, 1, body)
        before = server.cpu_seconds()
        done = rls.h2load(server.address, arguments.connections, arguments.seconds, body)
        time.sleep(1.2)  # what is sent after the load belongs to it
        return (server.cpu_seconds() - before) / done * 1e6


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--program", type=pathlib.Path, default=rls.TARGET / "release/tollgate")
    parser.add_argument("--before", type=pathlib.Path)
    arguments = parser.parse_args()
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=sink.serve_forever, daemon=True).start()
    kinds = {"off": (arguments.program, OFF), "on": (arguments.program, on(sink.server_port))}
    if arguments.before:
        kinds["before"] = (arguments.before, [])
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        body = folder / "message.bin"
        body.write_bytes(rls.message())
        rules = folder / "rules"
        rules.mkdir()
        (rules / "bench.yaml").write_text(rls.RULES % "fixed_window")
        rounds = []
        for number in range(arguments.rounds):
            # nobody is always the first
            order = list(kinds) if number % 2 == 0 else list(reversed(kinds))
            costs = {kind: measure(*kinds[kind], arguments, rules, body) for kind in order}
            rounds.append(costs)
            print("  ".join(f"{kind} {cost:.2f}" for kind, cost in sorted(costs.items())), flush=True)
    for kind in kinds:
        ratios = sorted(one[kind] / one["off"] for one in rounds)
        cost = statistics.median(one[kind] for one in rounds)
        print(f"{kind:<8}{cost:>8.2f} us  ratio {statistics.median(ratios):.3f}  {ratios[0]:.2f}-{ratios[-1]:.2f}")
    print(f"the collector has taken {Sink.taken} bytes")


if __name__ == "__main__":
    main()
