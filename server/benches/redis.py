#!/usr/bin/env python3
"""What a decision costs with the store in Redis: CPU time of the server and of Redis, calls, latency.

Prints tables in Markdown, medians over rounds in which everything takes its turn; ratios are taken inside a
round. The server is pinned to core 0, Redis and the generator share core 1, all on loopback. `yardstick` is the
empty stock tonic handler of `rls.py`. If REFERENCE_RATELIMIT names a built envoyproxy/ratelimit, it runs beside
ours. Needs redis-server, redis-cli, h2load and two
cores.

    server/benches/redis.py [--rounds 5] [--seconds 2] [--no-build] [--only callers limits refused script bytes]
"""

import argparse
import contextlib
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time

import redis_script
import redis_world as world
import rls

HIGH = "unit: hour, requests_per_unit: 10000000"
NESTED = f"""\
descriptors:
  - key: tenant
    rate_limit: {{{HIGH}, algorithm: token_bucket}}
    descriptors:
      - {{key: route, rate_limit: {{{HIGH}, algorithm: token_bucket}}}}
      - {{key: user, rate_limit: {{{HIGH}, algorithm: token_bucket}}}}
      - {{key: method, rate_limit: {{{HIGH}, algorithm: token_bucket}}}}
"""
REFUSING = """\
domain: refused
descriptors:
  - key: key
    rate_limit: {unit: year, requests_per_unit: 1, algorithm: fixed_window}
"""
TENANT = ("tenant", "tenant-000001")
FOUR = [[TENANT], [TENANT, ("route", "/export")], [TENANT, ("user", "ann")], [TENANT, ("method", "GET")]]


class Bench:
    """Where everything is, and how long a measurement takes."""

    def __init__(self, folder, arguments, stack):
        self.folder, self.rounds, self.seconds = folder, arguments.rounds, arguments.seconds
        self.reference = os.environ.get("REFERENCE_RATELIMIT")
        self.rules = folder / "rules"
        self.rules.mkdir()
        (self.rules / "bench.yaml").write_text(rls.RULES % "fixed_window")
        (self.rules / "refused.yaml").write_text(REFUSING)
        together = "charge: all_or_nothing\npartition: tenant\n"
        (self.rules / "together.yaml").write_text(f"domain: together\n{together}{NESTED}")
        (self.rules / "apart.yaml").write_text(f"domain: apart\n{NESTED}")
        self.node = [stack.enter_context(world.Redis(folder))]
        self.cluster = world.cluster(folder, stack)
        self.places = {"node": self.node, "cluster": self.cluster}

    def body(self, domain, *descriptors):
        path = self.folder / f"{domain}-{len(descriptors)}.bin"
        path.write_bytes(world.message(domain, *descriptors))
        return path

    def tollgate(self, nodes, denials=0):
        return lambda: (world.Tollgate(nodes, self.rules, self.folder, denials), nodes)

    def yardstick(self):
        return world.Yardstick(self.folder), []

    def beside(self):
        return world.Reference(self.reference, self.node, self.folder), self.node

    def measure(self, start, callers, body, keys=1):
        """Starts a server, warms it up, and takes its figures, each per decision."""
        server, nodes = start()
        with server:
            def load(seconds, log=None):
                if keys == 1:
                    return world.one_message(server.address, callers, seconds, body, log)
                return world.many_keys(server.address, callers, seconds, keys)
            load(1)
            for node in nodes:
                node.reset()
            log = self.folder / "latencies.log" if keys == 1 else None
            before, began = read(server, nodes), time.monotonic()
            done = load(self.seconds, log)
            took = time.monotonic() - began
            after = read(server, nodes)
            figures = {name: (after[name] - before[name]) / done for name in after}
            figures |= counted(nodes, done)
        for node in nodes:
            node.call("FLUSHALL")
        low, high = world.latencies(log) if log else (None, None)
        figures |= {"both": figures["server"] + figures["redis"], "p50": low, "p99": high}
        return figures | {"rate": done / took, "mean": callers * took / done * 1e6}

    def round_by_round(self, cases):
        """The figures of each case in each round."""
        all_figures = {name: [] for name in cases}
        for number in range(self.rounds):
            for name, case in cases.items():
                all_figures[name].append(self.measure(*case))
            print(f"round {number + 1} of {self.rounds}", file=sys.stderr, flush=True)
        return all_figures


def read(server, nodes):
    """CPU in microseconds, and calls of the script if the server counts them."""
    redis = sum(node.cpu_seconds() for node in nodes)
    calls = {"calls": server.calls()} if isinstance(server, world.Tollgate) else {}
    return {"server": server.cpu_seconds() * 1e6, "redis": redis * 1e6, **calls}


def counted(nodes, done):
    """Commands of Redis per decision, those in a script included: some by name, and all but the bench's own."""
    commands = [item for node in nodes for item in node.commands().items()]
    names = ("evalsha", "get", "set")
    figures = {
        name: sum(calls for command, (calls, *_) in commands if command == name) / done for name in names
    }
    own = ("info", "config")
    everything = sum(calls for command, (calls, *_) in commands if not command.startswith(own))
    return figures | {"commands": everything / done} if nodes else {}


def middle(rounds, name, digits=1):
    values = [figures[name] for figures in rounds if figures.get(name) is not None]
    return f"{statistics.median(values):,.{digits}f}" if values else "-"


def ratio(ours, theirs, name="both"):
    ratios = sorted(one[name] / other[name] for one, other in zip(ours, theirs))
    return f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"


def table(title, head, rows):
    print(f"\n### {title}\n\n| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |")
    sys.stdout.flush()


def per_decision(rounds):
    cpu = [middle(rounds, name) for name in ("server", "redis")]
    return [*cpu, *(middle(rounds, name, 3) for name in ("calls", "evalsha", "get", "set", "commands"))]


PER_DECISION = ["server CPU µs", "Redis CPU µs", "calls", "EVALSHA", "GET", "SET", "all commands"]


def callers(bench):
    body = bench.body("bench", [("key", "value-000000000001")])
    cases = {}
    for count in world.SHAPES:
        for keys in (1, 10_000):
            cases["yardstick", count, keys] = (bench.yardstick, count, body, keys)
            for place, nodes in bench.places.items():
                cases[place, count, keys] = (bench.tollgate(nodes), count, body, keys)
            if bench.reference:
                cases["reference", count, keys] = (bench.beside, count, body, keys)
    found = bench.round_by_round(cases)
    rows = [
        [*name, middle(rounds, "rate", 0), *per_decision(rounds),
         *(middle(rounds, key, 0) for key in ("mean", "p50", "p99"))]
        for name, rounds in sorted(found.items(), key=lambda item: (item[0][2], item[0][1], item[0][0]))
    ]
    head = ["system", "callers", "keys", "decisions/s", *PER_DECISION, "mean µs", "p50 µs", "p99 µs"]
    table("Strict, fixed window, nothing refused, per decision", head, rows)
    rows = []
    for place, count, keys in (name for name in found if name[0] in bench.places):
        ours = found[place, count, keys]
        row = [place, count, keys, middle(ours, "both"), ratio(ours, found["yardstick", count, keys])]
        theirs = found.get(("reference", count, keys))
        rows.append([*row, middle(theirs, "both") if theirs else "-", ratio(ours, theirs) if theirs else "-"])
    head = ["system", "callers", "keys", "CPU µs, server + Redis", "× yardstick", "reference's µs", "× reference"]
    table("CPU against the yardstick and against the reference, ratios within rounds", head, rows)
    if not bench.reference:
        print("\nThe reference was not run: REFERENCE_RATELIMIT does not name its binary.")


def limits(bench):
    cases = {}
    shapes = [("together", FOUR[:1]), ("together", FOUR), ("apart", FOUR)]
    for place, nodes in bench.places.items():
        for count in (1, 64):
            for domain, descriptors in shapes:
                body = bench.body(domain, *descriptors)
                cases[place, count, domain, len(descriptors)] = (bench.tollgate(nodes), count, body)
    found = bench.round_by_round(cases)
    rows = []
    for (place, count, domain, number), rounds in found.items():
        one = found[place, count, "together", 1]
        charge = "all_or_nothing" if domain == "together" else "each"
        cpu = [ratio(rounds, one, name) for name in ("server", "redis", "both")]
        rows.append([place, count, charge, number, middle(rounds, "rate", 0), *per_decision(rounds), *cpu])
    head = ["system", "callers", "charge", "limits", "decisions/s", *PER_DECISION]
    head += ["server × one", "Redis × one", "both × one"]
    title = "One limit and four in one request: token buckets; all_or_nothing with a partition, so in one slot"
    table(title, head, rows)


def refused(bench):
    body = bench.body("refused", [("key", "value-000000000001")])
    cases = {}
    for place, nodes in bench.places.items():
        for count in (1, 64):
            for denials in (0, 16 << 20):
                cases[place, count, denials] = (bench.tollgate(nodes, denials), count, body)
    found = bench.round_by_round(cases)
    rows = [
        [place, count, "on" if denials else "off", middle(rounds, "rate", 0), *per_decision(rounds)]
        for (place, count, denials), rounds in found.items()
    ]
    head = ["system", "callers", "cache of refusals", "decisions/s", *PER_DECISION]
    table("A hot key that is refused", head, rows)


def script(bench):
    for title, head, rows in redis_script.costs(bench.node[0], bench.folder, bench.rounds):
        table(title, head, rows)


def sizes(bench):
    table(*redis_script.sizes(bench.node[0], bench.folder))


PARTS = {"callers": callers, "limits": limits, "refused": refused, "script": script, "bytes": sizes}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--no-build", action="store_true")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    arguments = parser.parse_args()
    if not arguments.no_build:
        rls.build()
    # so that an end from outside ends the processes too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.sched_setaffinity(0, {world.SERVER_CORE})
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        bench = Bench(pathlib.Path(folder), arguments, stack)
        print(f"Server on core {world.SERVER_CORE}; Redis and the generator on core {world.OTHER_CORE}. "
              f"Medians of {arguments.rounds} rounds.")
        for name in arguments.only:
            PARTS[name](bench)


if __name__ == "__main__":
    main()
