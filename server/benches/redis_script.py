"""What the script costs Redis beside the smallest one that could limit anything, and how large its keys are."""

import http.client
import json
import re
import statistics

import memory
import redis_blast as blast
import redis_world as world
import rls

# limits so high that nothing is refused, except by the log, which holds no more than a thousand requests
LOG = 100
LIMITS = {
    "token_bucket": "unit: hour, requests_per_unit: 10000000, algorithm: token_bucket",
    # products pass 2^53, so that the script computes with digits
    "token_bucket, wide": "unit: year, requests_per_unit: 9999991, algorithm: token_bucket",
    "leaky_bucket": "unit: hour, requests_per_unit: 10000000, algorithm: leaky_bucket, queue: 10000000",
    "fixed_window": "unit: hour, requests_per_unit: 4294967295, algorithm: fixed_window",
    "fixed_window, calendar": "unit: day, time_zone: UTC, requests_per_unit: 10000000, algorithm: fixed_window",
    "sliding_window": "unit: hour, requests_per_unit: 10000000, algorithm: sliding_window",
    "sliding_window, log": f"unit: hour, requests_per_unit: {LOG}, algorithm: sliding_window, precision: log",
}
# clients and commands in a pipeline
SHAPES = [(1, 1), (1, 16), (50, 1), (50, 16)]
FULL = (50, 16)
SHOWN = ("smallest", "without TIME", "token_bucket")
# groups of hits in one call, and about how many groups are sent
BATCHES = (1, 4, 16, 64, 128)
CALLS = 40_000
# length of a key of ours
KEY = 34
# A token bucket in one number: the time at which it will be full again, in microseconds.
# ARGV: microseconds per token, burst in microseconds, and the time unless Redis tells it.
BODY = """\
local full = math.max(tonumber(redis.call("GET", KEYS[1])) or 0, now) + tonumber(ARGV[1])
local room = now + tonumber(ARGV[2]) - full
if room < 0 then
  return {0, -room}
end
redis.call("SET", KEYS[1], string.format("%.0f", full), "PX", math.ceil((full - now) / 1000))
return {1, room}
"""
CLOCK = """\
local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
"""
SMALLEST = CLOCK + BODY
TOLD = "local now = tonumber(ARGV[3])\n" + BODY
SIZE = """\
local sum, value, count = 0, 0, 0
for _, key in ipairs(redis.call("KEYS", "*")) do
  -- the list of the servers that share this Redis is none of the counters
  if redis.call("TYPE", key).ok == "string" then
    sum, value, count = sum + redis.call("MEMORY", "USAGE", key), value + redis.call("STRLEN", key), count + 1
  end
end
return {count, sum, value}
"""


class Call:
    """A call of a script: one group of hits has its keys and one argument."""

    def __init__(self, sha1, key, *arguments):
        self.sha1, self.key, self.arguments = sha1, key, arguments

    def bytes(self):
        return blast.command("EVALSHA", self.sha1, 1, self.key, *self.arguments)

    def batch(self, groups, apart):
        """The same question many times in one call, about one key or about as many."""
        keys = [self.key[:-4] + b"%04d" % (number if apart else 0) for number in range(groups)]
        return blast.command("EVALSHA", self.sha1, groups, *keys, *self.arguments * groups)


def small(node, text):
    sha1 = node.call("-x", "SCRIPT", "LOAD", stdin=text.encode())
    # a token in a microsecond, and an hour's burst: none is refused, as for ours
    return Call(sha1, b"k" * KEY, 1, 3_600_000_000, 1_700_000_000_000_000)


def rules(folder, name, limit):
    home = folder / f"rules-{name}"
    home.mkdir(exist_ok=True)
    (home / "bench.yaml").write_text(f"domain: bench\ndescriptors:\n  - key: key\n    rate_limit: {{{limit}}}\n")
    return home


def slow(limit):
    """The same limit, but so low that its keys live long."""
    return re.sub(r"unit: \w+(.*)requests_per_unit: \d+", r"unit: year\1requests_per_unit: 1000", limit)


def ours(node, folder, name):
    """The call that a server makes for one hit of a limit, as Redis sees it."""
    with world.Tollgate([node], rules(folder, name, LIMITS[name]), folder) as server:
        # the first call leaves the script in Redis
        ask(server.http)
        with world.Pinned("monitor", world.OTHER_CORE, ["redis-cli", "-p", node.port, "MONITOR"], folder) as monitor:
            monitor.seen("OK")
            ask(server.http)
            line = monitor.seen(r'"EVALSHA" .*').group()
    words = [unescape(word) for word in re.findall(r'"((?:[^"\\]|\\.)*)"', line)]
    _, sha1, keys, key, arguments = words
    if keys != b"1":
        raise ValueError(line)
    return Call(sha1, key, arguments)


def unescape(word):
    return word.encode("latin1").decode("unicode_escape").encode("latin1")


def ask(port):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=world.PATIENCE)
    descriptors = [{"entries": [{"key": "key", "value": "value-000000000001"}]}]
    connection.request("POST", "/json", json.dumps({"domain": "bench", "descriptors": descriptors}))
    response = connection.getresponse()
    response.read()
    connection.close()
    if response.status != 200:
        raise ValueError(f"status {response.status}")


def costs(node, folder, rounds):
    """The tables of CPU: by shape of the load, by algorithm, and by groups in one call."""
    calls = {name: ours(node, folder, name) for name in LIMITS}
    bucket = calls["token_bucket"]
    calls |= {"smallest": small(node, SMALLEST), "without TIME": small(node, TOLD)}
    jobs = {(name, *shape): (call.bytes(), *shape) for name, call in calls.items() for shape in SHAPES
            if shape == FULL or name in SHOWN}
    for groups in BATCHES:
        for apart in (False, True):
            jobs[groups, apart] = (bucket.batch(groups, apart), 2, 1)
    found = {job: [] for job in jobs}
    for _ in range(rounds):
        for job, (call, clients, pipeline) in jobs.items():
            node.call("FLUSHDB")
            groups = job[0] if job[0] in BATCHES else 1
            count = max(500, CALLS // groups // (2 if clients * pipeline == 1 else 1))
            found[job].append([one / groups for one in blast.repeat(node, call, clients, pipeline, count)])
    node.call("FLUSHDB")
    return [by_shape(found), by_algorithm(found, calls), by_batch(found)]


def by_shape(found):
    rows = []
    for shape in SHAPES:
        small, told, ours = (found[(name, *shape)] for name in SHOWN)
        outside = [median(one, 0) for one in (small, told, ours)]
        inside = [median(one, 1) for one in (small, ours)]
        rows.append([*shape, *outside, ratio(ours, small, 0), *inside, ratio(ours, small, 1)])
    head = ["clients", "pipeline", "smallest", "without TIME", "ours", "ours × smallest", "smallest, inside",
            "ours, inside", "× inside"]
    return "Redis CPU per call of a token bucket, µs: of the process, and inside EVALSHA", head, rows


def by_algorithm(found, calls):
    small = found[("smallest", *FULL)]
    rows = []
    for name in calls:
        rounds = found[(name, *FULL)]
        rows.append([name, median(rounds, 0), median(rounds, 1), ratio(rounds, small, 0)])
    shape = f"{FULL[0]} clients, pipeline {FULL[1]}"
    title = f"Redis CPU per call by algorithm, µs, {shape} (log: {LOG} entries, refused)"
    return title, ["script", "process", "inside", "× smallest"], rows


def by_batch(found):
    rows = []
    for groups in BATCHES:
        one, many = found[groups, False], found[groups, True]
        rows.append([groups, *(median(rounds, side) for rounds in (one, many) for side in (0, 1))])
    head = ["groups in a call", "one key", "inside", "a key for each", "inside"]
    return "Redis CPU per decision by groups in one call of ours, µs, token bucket, 2 clients", head, rows


def median(rounds, side):
    return f"{statistics.median(one[side] for one in rounds):.1f}"


def ratio(many, few, side):
    return f"{statistics.median(one[side] / other[side] for one, other in zip(many, few)):.2f}"


def sizes(node, folder, keys=1_000):
    """The table of bytes per key, as MEMORY USAGE counts them."""
    text = len("value-000000000000")
    rows = []
    for algorithm, limit in LIMITS.items():
        for times in (1, LOG) if algorithm.endswith("log") else (1,):
            node.call("FLUSHALL")
            with world.Tollgate([node], rules(folder, algorithm, slow(limit)), folder) as server:
                for _ in range(times):
                    memory.fill(server.http, keys)
            sha1 = node.call("-x", "SCRIPT", "LOAD", stdin=SIZE.encode())
            count, total, value = map(int, node.call("EVALSHA", sha1, 0).split())
            rows.append([algorithm, times, f"{total / count:.0f}", f"{value / count:.0f}"])
    node.call("FLUSHALL")
    head = ["algorithm", "hits on each key", "bytes per key", "of them the value"]
    return f"Bytes per key in Redis, {keys} keys whose entry has {text} letters", head, rows
