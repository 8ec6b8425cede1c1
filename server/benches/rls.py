#!/usr/bin/env python3
"""CPU time per request of the server beside an empty stock tonic handler (the yardstick, 1.00).

Both are run alternately, pinned to core 0, the generator to core 1, all on loopback. Prints medians over the
rounds of microseconds of server CPU per request and of the ratio inside each round. Needs h2load (Debian:
nghttp2-client) and two cores. `--profile` names the server's build profile.

    server/benches/rls.py [--rounds 5] [--seconds 3]
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PATH = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
TICK = os.sysconf("SC_CLK_TCK")
RULES = """\
domain: bench
descriptors:
  - key: key
    rate_limit: {unit: hour, requests_per_unit: 4294967295, algorithm: %s}
"""


def build():
    cargo = ["cargo", "build", "--locked", "-p", "tollgate-server"]
    subprocess.run([*cargo, "--release"], cwd=ROOT, check=True)
    subprocess.run([*cargo, "--profile", "plain", "--examples"], cwd=ROOT, check=True)


class Server:
    """One server process on core 0, ended on exit."""

    def __init__(self, kind, algorithm, folder):
        self.kind = kind
        if kind == "yardstick":
            command = [TARGET / "plain/examples/yardstick"]
        else:
            (folder / "bench.yaml").write_text(RULES % algorithm)
            ports = ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
            command = [TARGET / "release/tollgate", "--config", folder, "--host", "127.0.0.1", *ports]
        self.process = subprocess.Popen(
            ["taskset", "-c", "0", *map(str, command)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        self.address = self.find_address()

    def find_address(self):
        for line in self.process.stdout:
            found = re.search(r"grpc=(\S+)" if self.kind != "yardstick" else r"(\S+:\d+)", line)
            if found:
                return re.sub(r"\x1b\[[0-9;]*m", "", found.group(1))
        sys.exit(f"{self.kind} did not start")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(number, payload):
    return bytes([number << 3 | 2]) + varint(len(payload)) + payload


def message():
    entry = field(1, b"key") + field(2, b"value-000000000001")
    body = field(1, b"bench") + field(2, field(1, entry))
    return b"\0" + len(body).to_bytes(4, "big") + body


def h2load(address, connections, seconds, body):
    command = [
        "taskset", "-c", "1", "h2load", "-c", connections, "-m", 64, "-D", seconds, "-d", body,
        "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 1S",
        f"http://{address}{PATH}",
    ]
    out = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    done, failed = re.search(r"(\d+) succeeded, (\d+) failed", out).groups()
    if int(failed):
        sys.exit(out)
    return int(done)


def many_keys(address, connections, seconds, keys):
    load = TARGET / "plain/examples/load"
    command = ["taskset", "-c", "1", load, address, connections, 64, seconds, keys]
    return int(subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout)


def measure(kind, case, seconds, folder, body):
    algorithm, connections, keys = case
    with Server(kind, algorithm, folder) as server:
        def load(duration):
            if keys == 1:
                return h2load(server.address, connections, duration, body)
            return many_keys(server.address, connections, duration, keys)
        load(1)
        before, began = server.cpu_seconds(), time.monotonic()
        done = load(seconds)
        took = time.monotonic() - began
        return (server.cpu_seconds() - before) / done * 1e6, done / took


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--no-build", action="store_true")
    arguments = parser.parse_args()
    if not arguments.no_build:
        build()
    cases = [("fixed_window", connections, 1) for connections in (2, 4, 16)]
    cases += [("token_bucket", 4, 1), ("fixed_window", 4, 100_000)]
    print(f"{'algorithm':<15}{'conns':>6}{'keys':>8}{'yardstick':>12}{'tollgate':>10}{'ratio':>8}"
          f"{'spread':>14}{'req/s ratio':>13}   CPU us per request, medians of {arguments.rounds}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        body = folder / "message.bin"
        body.write_bytes(message())
        rules = folder / "rules"
        rules.mkdir()
        for case in cases:
            rounds = [
                [measure(kind, case, arguments.seconds, rules, body) for kind in ("yardstick", "tollgate")]
                for _ in range(arguments.rounds)
            ]
            ratios = sorted(ours[0] / theirs[0] for theirs, ours in rounds)
            rate = statistics.median(ours[1] / theirs[1] for theirs, ours in rounds)
            theirs, ours = (statistics.median(one[side][0] for one in rounds) for side in (0, 1))
            algorithm, connections, keys = case
            print(f"{algorithm:<15}{connections:>6}{keys:>8}{theirs:>12.1f}{ours:>10.1f}"
                  f"{statistics.median(ratios):>8.2f}{f'{ratios[0]:.2f}-{ratios[-1]:.2f}':>14}{rate:>13.2f}",
                  flush=True)


if __name__ == "__main__":
    main()
