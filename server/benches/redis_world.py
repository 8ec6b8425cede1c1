"""The processes of `redis.py`, pinned and ended on exit, and what is read off them."""

import contextlib
import http.client
import itertools
import os
import pathlib
import re
import socket
import subprocess
import sys
import time

import rls

SERVER_CORE, OTHER_CORE = 0, 1
PATIENCE = 20
NUMBERS = itertools.count()
# connections and streams of each by callers
SHAPES = {1: (1, 1), 64: (4, 16), 512: (8, 64)}


def until(check, what, patience=PATIENCE):
    """The first true result of `check`; ends the program after `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.02)
    sys.exit(f"not within {patience} s: {what}")


def can_bind(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
        return probe.getsockname()[1]


def low_port():
    """A free port; the bus of a cluster listens 10000 ports higher."""
    for _ in range(200):
        port = can_bind(0)
        if port < 55_000 and can_bind(port + 10_000):
            return port
    sys.exit("no free port below 55000")


class Pinned(rls.Server):
    """A process on one core that writes into a file, ended on exit."""

    def __init__(self, name, core, command, folder, environment=None):
        self.kind = name
        self.log = folder / f"{name}-{next(NUMBERS)}.log"
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *map(str, command)],
                stdout=out, stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})},
            )
        try:
            self.ready()
        except BaseException:
            print(self.log.read_text(errors="replace")[-2000:], file=sys.stderr)
            self.__exit__()
            raise

    def ready(self):
        """Waits until the process can be used."""

    def seen(self, pattern):
        """Waits for a line in the log."""
        def look():
            text = re.sub(r"\x1b\[[0-9;]*m", "", self.log.read_text(errors="replace"))
            if self.process.poll() is not None:
                sys.exit(f"{self.kind} ended")
            return re.search(pattern, text)
        return until(look, f"{self.kind}: {pattern}")


class Redis(Pinned):
    """A Redis server that keeps nothing on disk."""

    def __init__(self, folder, *options):
        self.port = low_port()
        self.folder = folder / f"redis-{self.port}"
        self.folder.mkdir()
        plain = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1", "--dir", self.folder]
        super().__init__("redis", OTHER_CORE, ["redis-server", "--port", self.port, *plain, *options], folder)

    def ready(self):
        self.seen("Ready to accept connections")

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def call(self, *words, stdin=None):
        command = ["redis-cli", "-p", *map(str, (self.port, *words))]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE, check=True)
        return done.stdout.decode("latin1").strip()

    def commands(self):
        """Calls, time in the command in microseconds, and failures since the last reset, by command."""
        pattern = r"cmdstat_(\S+):calls=(\d+),usec=(\d+),.*failed_calls=(\d+)"
        return {name: tuple(map(int, rest)) for name, *rest in re.findall(pattern, self.call("INFO", "commandstats"))}

    def reset(self):
        self.call("CONFIG", "RESETSTAT")


def cluster(folder, stack):
    """Three masters that have all slots."""
    options = ["--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf"]
    nodes = [stack.enter_context(Redis(folder, *options)) for _ in range(3)]
    addresses = [node.address for node in nodes]
    create = ["redis-cli", "--cluster", "create", *addresses, "--cluster-yes"]
    subprocess.run(create, check=True, capture_output=True, timeout=PATIENCE)
    until(lambda: all("cluster_state:ok" in node.call("CLUSTER", "INFO") for node in nodes), "the cluster is whole")
    return nodes


class Tollgate(Pinned):
    """The server over `nodes`. Three or more of them are a cluster."""

    def __init__(self, nodes, rules, folder, denials=0):
        ports = ["--grpc-port", 0, "--http-port", 0, "--admin-port", 0]
        command = [rls.TARGET / "release/tollgate", "--config", rules, "--host", "127.0.0.1", *ports]
        super().__init__("tollgate", SERVER_CORE, command, folder, {
            "TOLLGATE__STORE__REDIS__URL": ",".join(node.address for node in nodes),
            "TOLLGATE__STORE__REDIS__KIND": "cluster" if len(nodes) > 1 else "single",
            "TOLLGATE__STORE__REDIS__SOCKET": "tcp",
            # other work on this machine is no fault of Redis
            "TOLLGATE__STORE__REDIS__CALL_TIMEOUT": "1s",
            "TOLLGATE__STORE__DENIALS__MAX_BYTES": str(denials),
        })

    def ready(self):
        self.address = self.seen(r"grpc=(\S+:\d+)").group(1)
        self.http = int(self.seen(r"http=\S+:(\d+)").group(1))
        self.admin = int(self.seen(r"admin=\S+:(\d+)").group(1))
        until(lambda: get(self.http, "/readyz"), "the server is ready")

    def calls(self):
        """Calls of the script; ends the program if one found no answer."""
        page = get(self.admin, "/metrics") or ""
        faults = re.findall(r"^tollgate_store_faults_total\{.*\} [1-9].*$", page, re.M)
        if faults:
            sys.exit("\n".join(faults))
        return int(re.search(r"^tollgate_store_calls_total (\d+)", page, re.M).group(1))


class Reference(Pinned):
    """A built envoyproxy/ratelimit, with its defaults."""

    def __init__(self, binary, nodes, folder):
        home = folder / "reference"
        (home / "config").mkdir(parents=True, exist_ok=True)
        plain = re.sub(r", algorithm: %s", "", rls.RULES)
        (home / "config/bench.yaml").write_text(plain)
        grpc, self.http, debug = low_port(), low_port(), low_port()
        self.address = f"127.0.0.1:{grpc}"
        super().__init__("reference", SERVER_CORE, [binary], folder, {
            "USE_STATSD": "false", "LOG_LEVEL": "error", "BACKEND_TYPE": "redis", "REDIS_SOCKET_TYPE": "tcp",
            "REDIS_URL": nodes[0].address, "RUNTIME_ROOT": str(home), "RUNTIME_SUBDIRECTORY": "",
            "RUNTIME_APPDIRECTORY": "config", "RUNTIME_WATCH_ROOT": "false", "HOST": "127.0.0.1",
            "GRPC_HOST": "127.0.0.1", "GRPC_PORT": str(grpc), "PORT": str(self.http), "DEBUG_HOST": "127.0.0.1",
            "DEBUG_PORT": str(debug),
        })

    def ready(self):
        until(lambda: get(self.http, "/healthcheck"), "the reference is ready")


class Yardstick(Pinned):
    """The empty stock handler."""

    def __init__(self, folder):
        super().__init__("yardstick", SERVER_CORE, [rls.TARGET / "plain/examples/yardstick"], folder)

    def ready(self):
        self.address = self.seen(r"(\S+:\d+)").group(1)


def get(port, path):
    """The body of a 200, else nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
        return body or "empty" if response.status == 200 else None


def message(domain, *descriptors):
    """A request; a descriptor is a list of pairs."""
    body = rls.field(1, domain.encode())
    for pairs in descriptors:
        entries = [rls.field(1, key.encode()) + rls.field(2, value.encode()) for key, value in pairs]
        body += rls.field(2, b"".join(rls.field(1, entry) for entry in entries))
    return b"\0" + len(body).to_bytes(4, "big") + body


def one_message(address, callers, seconds, body, log=None):
    """Answers to one message, sent again and again; the microseconds of each go to `log`."""
    connections, streams = SHAPES[callers]
    command = [
        "taskset", "-c", OTHER_CORE, "h2load", "-c", connections, "-m", streams, "-D", f"{int(seconds * 1000)}ms",
        "-d", body, "-H", "content-type: application/grpc", "-H", "te: trailers", "-H", "grpc-timeout: 1S",
        *(["--log-file", log] if log else []), f"http://{address}{rls.PATH}",
    ]
    out = run(command, seconds)
    done, failed = re.search(r"(\d+) succeeded, (\d+) failed", out).groups()
    if int(failed):
        sys.exit(out)
    return int(done)


def many_keys(address, callers, seconds, keys):
    """Answers to messages about `keys` keys in turn."""
    load = rls.TARGET / "plain/examples/load"
    return int(run(["taskset", "-c", OTHER_CORE, load, address, *SHAPES[callers], seconds, keys], seconds))


def run(command, seconds):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=seconds + PATIENCE)
    if done.returncode:
        sys.exit(f"{command}: {done.stdout}{done.stderr}")
    return done.stdout


def latencies(log):
    """The 50th and 99th percentile of a log of h2load, in microseconds."""
    times = sorted(int(line.rsplit("\t", 1)[1]) for line in pathlib.Path(log).read_text().splitlines())
    log.unlink()
    return times[len(times) // 2], times[len(times) * 99 // 100]
