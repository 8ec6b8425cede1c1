"""Old and new servers on one Redis: a fleet is replaced server by server, forth and back, and no limit notices.

TOLLGATE_OLD_BIN names the old program (any build from the first with the store in Redis on). Without it the fleet is
replaced by servers of the same program, which shows that a replacement is not noticed; that states of old servers are
read is then shown by RECORDED alone: bytes as a server of 0.1.0 left them.
"""

import json
import os
import signal
import socket
import time
import uuid

import pytest

from lib.http import send
from lib.load import Load
from lib.redis import Redis
from lib.tollgate import BINARY, Tollgate
from lib.wait import room_in_window

OLD = os.environ.get("TOLLGATE_OLD_BIN") or BINARY
DAY = 86_400_000_000
RULES = """
domain: up
descriptors:
  - key: fixed
    rate_limit: { unit: day, requests_per_unit: 10 }
  - key: bucket
    rate_limit: { unit: day, requests_per_unit: 10, algorithm: token_bucket, burst: 10 }
  - key: leaky
    rate_limit: { unit: day, requests_per_unit: 10, algorithm: leaky_bucket, queue: 9 }
  - key: sliding
    rate_limit: { unit: day, requests_per_unit: 10, algorithm: sliding_window }
  - key: log
    rate_limit: { unit: day, requests_per_unit: 10, algorithm: sliding_window, precision: log }
  - key: lenient
    rate_limit: { unit: day, requests_per_unit: 10, on_failure: allow }
  - key: many
    rate_limit: { unit: day, requests_per_unit: 400 }
  - key: stock
    rate_limit: { unit: day, requests_per_unit: 400, algorithm: token_bucket, burst: 400 }
"""

# What four requests left in Redis (of the leaky bucket: one that was let pass and three that were refused), and the
# places of the numbers in it that depend on when that was: 7 bytes each.
RECORDED = {
    "fixed": ("01 46 0660fa643be000 06610e82134000 00000000000004", (2, 9)),
    "bucket": ("01 54 06610cd64ab565 00000000000004 00000000013478 00000202fbf000", (2, 16)),
    "leaky": ("01 4c 06610cd64b9178 00000000000001 00000000000000 00000202fbf000", (2, 16)),
    "sliding": ("01 53 0660fa643be000 0000141dd76000 00000000000000 00000000000004", (2,)),
    "log": ("01 47 06610cd64f0519 0001 06610cd64f9353 0001 06610cd651166d 0001 06610cd6518de9 0001", (2, 11, 20, 29)),
}


def key_of(key: str, value: str) -> bytes:
    """The name of a counter in Redis: each part after its length."""
    part = lambda text: bytes([len(text)]) + text.encode()  # noqa: E731
    return b"tg:r" + part("up") + bytes([len(key)]) + key.encode() + b"=" + part(value)


def in_redis(redis: Redis, *words: bytes) -> bytes | None:
    """One command whose words and answer are bytes."""
    line = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    with socket.create_connection(("127.0.0.1", redis.port), timeout=5) as connection:
        stream = connection.makefile("rwb")
        stream.write(line)
        stream.flush()
        head = stream.readline()
        assert head[:1] in (b"$", b"+"), head
        if head[:1] == b"+":
            return head
        length = int(head[1:])
        return stream.read(length) if length >= 0 else None


def seven(number: int) -> bytes:
    return number.to_bytes(7, "big")


def moved_to_now(key: str) -> bytes:
    """What was recorded, as if it had happened just now."""
    text, _ = RECORDED[key]
    state = bytearray.fromhex(text)
    now = time.time_ns() // 1000
    today = now - now % DAY
    instants = {"fixed": {2: today, 9: today + DAY}, "sliding": {2: today}}.get(key)
    if key == "log":
        instants = {place: now - 4_000 + number * 1_000 for number, place in enumerate((2, 11, 20, 29))}
    for place, instant in (instants or {2: now}).items():
        state[place : place + 7] = seven(instant)
    return bytes(state)


def without_instants(key: str, state: bytes) -> bytes:
    masked = bytearray(state)
    for place in RECORDED[key][1]:
        masked[place : place + 7] = bytes(7)
    return bytes(masked)


def server(processes, redis: Redis, name: str, **more) -> Tollgate:
    # a busy machine is no Redis that fails
    settings = {"store.redis.url": redis.address, "store.redis.call_timeout": "2s"}
    return Tollgate(processes, RULES, name=name, settings=settings, **more)


@pytest.fixture(scope="module")
def redis(shared) -> Redis:
    return Redis(shared)


@pytest.fixture(scope="module")
def new(shared, redis) -> Tollgate:
    return server(shared, redis, "new")


@pytest.mark.parametrize("key", RECORDED)
def test_a_recorded_state_is_gone_on_from(new, redis, key):
    room_in_window(86_400, 20)
    identity = uuid.uuid4().hex[:8]
    assert in_redis(redis, b"SET", key_of(key, identity), moved_to_now(key), b"PX", b"80000000") == b"+OK\r\n"
    answers = [new.json("up", {key: identity}).status for _ in range(7)]
    # the leaky bucket lets nothing pass until what it holds has left: nobody waits here
    assert answers == ([429] * 7 if key == "leaky" else [200] * 6 + [429])
    fresh = new.json("up", {key: uuid.uuid4().hex[:8]}).status
    assert fresh == 200, "the same question about a key without a state"


@pytest.mark.parametrize("key", RECORDED)
def test_states_are_stored_as_they_were_recorded(new, redis, key):
    """If this fails, the format has changed: it needs a new version, and readers of this one."""
    room_in_window(86_400, 20)
    identity = uuid.uuid4().hex[:8]
    for _ in range(4):
        new.json("up", {key: identity})
    recorded = bytes.fromhex(RECORDED[key][0])
    stored = in_redis(redis, b"GET", key_of(key, identity))
    assert without_instants(key, stored) == without_instants(key, recorded), stored.hex(" ")


def test_a_state_of_a_newer_version_is_left_alone(new, redis):
    identity = uuid.uuid4().hex[:8]
    newer = b"\x02F" + bytes(30)
    in_redis(redis, b"SET", key_of("lenient", identity), newer, b"PX", b"80000000")
    assert [new.json("up", {"lenient": identity}).status for _ in range(12)] == [200] * 12, "on_failure: allow"
    assert in_redis(redis, b"GET", key_of("lenient", identity)) == newer


# --- a fleet


class Fleet:
    """Two servers of one Redis."""

    def __init__(self, processes, redis: Redis):
        self._processes, self._redis = processes, redis
        self.servers = [self._start(number, OLD, "old") for number in range(2)]

    def _start(self, number: int, binary: str, age: str) -> Tollgate:
        name = f"{age}-{number}-{len(self._processes.started)}"
        return server(self._processes, self._redis, name, binary=binary)

    def replace(self, number: int, binary: str, age: str) -> None:
        """As an orchestrator does: the next server comes when the one before has left."""
        leaving = self.servers[number].process
        leaving.signal(signal.SIGTERM)
        assert leaving.wait(30) == 0
        self.servers[number] = self._start(number, binary, age)

    def ask(self, key: str, identity: str, count: int) -> list[int]:
        """The servers in turn."""
        return [self.servers[number % 2].json("up", {key: identity}).status for number in range(count)]


def through(one: Tollgate):
    """Asks one server, each time about a key that all ask about, until and beyond its limit."""
    body = json.dumps({"domain": "up", "descriptors": [{"entries": [{"key": "many", "value": "all"}]}]}).encode()
    return lambda: lambda: send(one.http, "/json", method="POST", body=body).status


def test_a_fleet_is_replaced_forth_and_back(own, redis):
    room_in_window(86_400, 120)
    fleet = Fleet(own, redis)
    identity = uuid.uuid4().hex
    # asked a few times between the changes, so that the limit is reached only after the last
    admitted = dict.fromkeys(("many", "stock"), 0)
    passed = 0
    for binary, age in ((BINARY, "new"), (OLD, "old"), (BINARY, "new")):
        for number in range(2):
            with Load(through(fleet.servers[1 - number]), threads=2) as load:
                fleet.replace(number, binary, age)
                load.more(20)
            assert set(load.answers) <= {200, 429}, f"{age} {number}: {load.answers}"
            passed += load.answers[200]
            for key in admitted:
                assert fleet.ask(key, identity, 20) == [200] * 20, key
                admitted[key] += 20
    assert passed == 400, "all that the servers let pass together, old and new"
    for key, total in admitted.items():
        answers = fleet.ask(key, identity, 400 - total + 5)
        # a bucket of 400 a day gains a token every 216 s
        extra = answers.count(200) - (400 - total)
        assert extra == 0 if key == "many" else 0 <= extra <= 2, (key, extra)
        assert answers[-1] == 429, key
