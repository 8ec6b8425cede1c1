#!/usr/bin/env python3
"""Resident memory of the server with a million live keys, per key and without the keys' text.

    server/benches/memory.py [--keys 1000000] [--no-build]
"""

import argparse
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BATCH = 500
ALGORITHMS = ["fixed_window", "token_bucket", "sliding_window"]


def resident(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status).group(1)) * 1024


def start(folder, algorithm):
    (folder / "bench.yaml").write_text(
        "domain: bench\ndescriptors:\n  - key: key\n    rate_limit: "
        f"{{unit: year, requests_per_unit: 1000, algorithm: {algorithm}}}\n"
    )
    ports = ["--grpc-port", "0", "--http-port", "0", "--admin-port", "0"]
    process = subprocess.Popen(
        [TARGET / "release/tollgate", "--config", folder, "--host", "127.0.0.1", *ports],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )
    for line in process.stdout:
        found = re.search(r"http=127\.0\.0\.1:(\d+)", re.sub(r"\x1b\[[0-9;]*m", "", line))
        if found:
            return process, int(found.group(1))
    sys.exit("the server did not start")


def fill(port, keys):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    text = 0
    for first in range(0, keys, BATCH):
        values = [f"value-{number:012}" for number in range(first, min(first + BATCH, keys))]
        # the key of a counter: kind, domain, key and value with a length byte each, and a mark
        text += sum(len(value) + len("bench") + len("key") + 5 for value in values)
        descriptors = [{"entries": [{"key": "key", "value": value}]} for value in values]
        connection.request("POST", "/json", json.dumps({"domain": "bench", "descriptors": descriptors}))
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            sys.exit(f"status {response.status}")
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--no-build", action="store_true")
    arguments = parser.parse_args()
    if not arguments.no_build:
        subprocess.run(["cargo", "build", "--locked", "--release", "-p", "tollgate-server"], cwd=ROOT, check=True)
    print(f"{'algorithm':<16}{'keys':>9}{'RSS MiB':>9}{'bytes/key':>11}{'without text':>14}")
    for algorithm in ALGORITHMS:
        with tempfile.TemporaryDirectory() as folder:
            process, port = start(pathlib.Path(folder), algorithm)
            try:
                before = resident(process.pid)
                text = fill(port, arguments.keys)
                after = resident(process.pid)
            finally:
                process.kill()
                process.wait()
        per_key = (after - before) / arguments.keys
        print(f"{algorithm:<16}{arguments.keys:>9}{after / 2**20:>9.0f}{per_key:>11.0f}"
              f"{per_key - text / arguments.keys:>14.0f}", flush=True)


if __name__ == "__main__":
    main()
