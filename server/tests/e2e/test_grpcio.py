"""gRPC's own client: every status and error that the reference's callers know."""

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from lib.rls import Client, Code, Response, Unit, descriptor
from lib.tollgate import Tollgate
from lib.wait import room_in_window, seconds_left, until

RULES = """
domain: shop
descriptors:
  - key: three
    rate_limit: { unit: hour, requests_per_unit: 3, name: three }
  - key: thousand
    rate_limit: { unit: day, requests_per_unit: 1000 }
  - key: most
    rate_limit: { unit: year, requests_per_unit: 4294967295 }
  - key: none
    rate_limit: { unit: minute, requests_per_unit: 0 }
  - key: free
    rate_limit: { unlimited: true }
  - key: five_minutes
    rate_limit: { unit: minute, unit_multiplier: 5, requests_per_unit: 9 }
  - key: queue
    rate_limit: { unit: minute, requests_per_unit: 30, algorithm: leaky_bucket, queue: 1, max_hold: 10s }
"""


@pytest.fixture(scope="module")
def server(shared) -> Tollgate:
    return Tollgate(shared, RULES)


@pytest.fixture(scope="module")
def client(server):
    client = Client(server.address)
    yield client
    client.close()


@pytest.fixture
def value() -> str:
    return uuid.uuid4().hex


@pytest.fixture(autouse=True)
def lives(server, client):
    """Whatever a test does, the server answers after it."""
    yield
    assert client.ask("shop", descriptor(("free", ""))).overall_code == Code.OK
    assert server.process.running


# --- answers


def test_a_status_tells_limit_remaining_and_reset(client, value):
    room_in_window(3600, 10)
    answer = client.ask("shop", descriptor(("three", value)))
    (status,) = answer.statuses
    limit = status.current_limit
    assert (answer.overall_code, status.code, status.limit_remaining) == (Code.OK, Code.OK, 2)
    assert (limit.requests_per_unit, limit.unit, limit.name) == (3, Response.RateLimit.HOUR, "three")
    assert not limit.HasField("unit_multiplier")
    assert 0 <= status.duration_until_reset.seconds - seconds_left(3600) <= 5
    assert status.duration_until_reset.nanos == 0


def test_over_the_limit_one_status_refuses_the_request(client, value):
    asked = descriptor(("three", value)), descriptor(("thousand", value))
    answers = [client.ask("shop", *asked) for _ in range(4)]
    assert [answer.overall_code for answer in answers] == [Code.OK] * 3 + [Code.OVER_LIMIT]
    three, thousand = answers[3].statuses
    assert (three.code, three.limit_remaining) == (Code.OVER_LIMIT, 0)
    assert (thousand.code, thousand.limit_remaining) == (Code.OK, 996)


def test_what_no_rule_limits_has_an_empty_status(client):
    for domain, entries in (("shop", [("unknown", "x")]), ("no such domain", [("three", "x")]), ("shop", [])):
        answer = client.ask(domain, descriptor(*entries))
        (status,) = answer.statuses
        assert (answer.overall_code, status.code, status.limit_remaining) == (Code.OK, Code.OK, 0)
        assert not status.HasField("current_limit") and not status.HasField("duration_until_reset")


def test_unlimited_has_the_largest_remaining(client):
    (status,) = client.ask("shop", descriptor(("free", "x"))).statuses
    assert (status.code, status.limit_remaining, status.HasField("current_limit")) == (Code.OK, 4294967295, False)


def test_a_limit_of_nothing_refuses_all_but_a_look(client, value):
    assert client.ask("shop", descriptor(("none", value), hits=0)).overall_code == Code.OK
    answer = client.ask("shop", descriptor(("none", value)))
    assert answer.overall_code == Code.OVER_LIMIT
    assert (answer.statuses[0].current_limit.requests_per_unit, answer.statuses[0].limit_remaining) == (0, 0)


def test_statuses_come_in_the_order_of_the_descriptors(client, value):
    asked = [descriptor((key, value)) for key in ("unknown", "three", "free", "thousand", "three")]
    remaining = [status.limit_remaining for status in client.ask("shop", *asked).statuses]
    # the same descriptor twice counts twice
    assert remaining == [0, 2, 4294967295, 999, 1]


def test_hits_of_the_request_hold_for_descriptors_without_their_own(client, value):
    asked = descriptor(("thousand", value)), descriptor(("most", value), hits=7)
    first, second = client.ask("shop", *asked, hits=100).statuses
    assert (first.limit_remaining, second.limit_remaining) == (900, 4294967288)
    # 0 is absent, and absent is 1
    assert client.ask("shop", asked[0], hits=0).statuses[0].limit_remaining == 899


def test_a_refund_is_never_refused_and_gives_back(client, value):
    client.ask("shop", descriptor(("three", value), hits=5))
    (status,) = client.ask("shop", descriptor(("three", value), hits=4, refund=True)).statuses
    assert (status.code, status.limit_remaining) == (Code.OK, 2)


def test_a_limit_of_the_request_replaces_the_rules_limit(client, value):
    asked = descriptor(("three", value), limit=(5, Unit.DAY))
    answers = [client.ask("shop", asked) for _ in range(6)]
    assert [answer.overall_code for answer in answers] == [Code.OK] * 5 + [Code.OVER_LIMIT]
    assert answers[0].statuses[0].current_limit.unit == Response.RateLimit.DAY


def test_windows_of_several_units_are_told_as_such(client, value):
    ruled = client.ask("shop", descriptor(("five_minutes", value))).statuses[0].current_limit
    assert (ruled.unit, ruled.unit_multiplier.value) == (Response.RateLimit.MINUTE, 5)
    brought = client.ask("shop", descriptor(("x", value), limit=(4, Unit.HOUR, 2))).statuses[0].current_limit
    assert (brought.requests_per_unit, brought.unit, brought.unit_multiplier.value) == (4, Response.RateLimit.HOUR, 2)


def test_exactly_the_limit_passes_from_many_connections(server, value):
    def ask(_) -> int:
        client = Client(server.address, **{"grpc.use_local_subchannel_pool": 1})
        codes = [client.ask("shop", descriptor(("thousand", value), hits=10)).overall_code for _ in range(20)]
        client.close()
        return codes.count(Code.OK)

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(ask, range(8))) == 100


# --- errors


def test_errors_have_the_references_code_and_text(client):
    unknown = grpc.StatusCode.UNKNOWN
    assert client.fails("", descriptor(("a", "b"))) == (unknown, "rate limit domain must not be empty")
    assert client.fails("shop") == (unknown, "rate limit descriptor list must not be empty")


def test_without_rules_every_call_fails_with_the_references_text(own):
    client = Client(Tollgate(own, "domain: [").address)
    expected = (grpc.StatusCode.UNKNOWN, "no rate limit configuration loaded")
    assert client.fails("shop", descriptor(("a", "b"))) == expected
    client.close()


@pytest.mark.parametrize("unit", [0, 8, 99, -1])
def test_a_limit_without_a_unit_is_an_error(client, value, unit):
    code, text = client.fails("shop", descriptor(("x", value), limit=(1, unit)))
    assert (code, text) == (grpc.StatusCode.UNKNOWN, f"invalid rate limit unit {unit} in the limit of descriptor 0")


def test_a_week_is_a_unit_by_its_number(client, value):
    # the type of a request's limit has no WEEK; the reference takes the number all the same
    (status,) = client.ask("shop", descriptor(("x", value), limit=(1, Response.RateLimit.WEEK))).statuses
    assert status.current_limit.unit == Response.RateLimit.WEEK


def test_a_limit_with_a_window_of_no_length_is_an_error(client, value):
    code, text = client.fails("shop", descriptor(("x", value), limit=(1, Unit.HOUR, 0)))
    assert code == grpc.StatusCode.UNKNOWN and text.startswith("unit_multiplier must not be 0")


@pytest.mark.parametrize("hits", [2**63, 2**64 - 1])
def test_hits_that_would_wrap_are_an_error_and_count_nothing(client, value, hits):
    code, text = client.fails("shop", descriptor(("three", value)), descriptor(("three", value), hits=hits))
    assert code == grpc.StatusCode.UNKNOWN and text.startswith(f"hits_addend {hits} of descriptor 1 is out of range")
    assert client.ask("shop", descriptor(("three", value))).statuses[0].limit_remaining == 2


def test_the_largest_hits_are_over_the_limit_and_wrap_nothing(client, value):
    for _ in range(3):
        assert client.ask("shop", descriptor(("most", value), hits=2**63 - 1)).overall_code == Code.OVER_LIMIT


@pytest.mark.parametrize("message", [b"\x0a\x02\xff\xfe", b"\x0a\x7f", b"\xff" * 20], ids=["utf8", "short", "junk"])
def test_bytes_that_are_no_request_are_an_error(client, message):
    with pytest.raises(grpc.RpcError) as failed:
        client.ask_raw(message)
    assert failed.value.code() in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    "path",
    [
        "/envoy.service.ratelimit.v2.RateLimitService/ShouldRateLimit",
        "/envoy.service.ratelimit.v3.RateLimitService/NoSuchMethod",
        "/no.such.Service/Method",
    ],
)
def test_an_unknown_method_is_unimplemented(client, path):
    with pytest.raises(grpc.RpcError) as failed:
        client.channel.unary_unary(path)(b"", timeout=5)
    assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED


# --- sizes, compression, deadlines


def test_a_message_above_4_mib_is_resource_exhausted(client):
    code, _ = client.fails("shop", descriptor(("three", "x" * (4 << 20))))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    below = client.ask("shop", descriptor(("three", "y" * ((4 << 20) - 100))))
    assert below.overall_code == Code.OK


def test_thousands_of_descriptors_are_answered(client, value):
    asked = [descriptor(("thousand", f"{value}{place % 2500}")) for place in range(5000)]
    answer = client.ask("shop", *asked)
    assert answer.overall_code == Code.OK
    assert [status.limit_remaining for status in answer.statuses] == [999] * 2500 + [998] * 2500


def test_a_compressed_request_is_answered(client, value):
    asked = descriptor(("three", value * 50))
    answer = client.ask("shop", asked, compression=grpc.Compression.Gzip)
    assert answer.statuses[0].limit_remaining == 2
    # the same without compression is the same key
    assert client.ask("shop", asked).statuses[0].limit_remaining == 1


def test_who_would_wait_beyond_the_deadline_is_refused_in_time(client, value):
    queued = descriptor(("queue", value))
    assert client.ask("shop", queued).overall_code == Code.OK
    began = time.monotonic()
    assert client.ask("shop", queued, timeout=0.5).overall_code == Code.OVER_LIMIT
    assert time.monotonic() - began < 0.4


def test_a_caller_who_goes_away_gives_its_place_in_the_queue_back(client, value):
    queued = descriptor(("queue", value))
    began = time.monotonic()
    assert client.ask("shop", queued).overall_code == Code.OK
    waiting = client.start("shop", queued)
    until(lambda: client.ask("shop", queued).overall_code == Code.OVER_LIMIT, "the only place is taken")
    assert not waiting.done()

    waiting.cancel()
    until(lambda: client.ask("shop", queued).overall_code == Code.OK, "the place is free again")
    # one leaves every two seconds: whoever took the place was the second, not the third
    assert time.monotonic() - began < 3.5


def test_who_is_held_is_shown_in_the_metrics(client, server, value):
    queued = descriptor(("queue", value))
    client.ask("shop", queued)
    waiting = client.start("shop", queued)
    until(lambda: server.metric("tollgate_held") == 1, "one caller is held", timeout=1.5)
    waiting.cancel()
    until(lambda: server.metric("tollgate_held") == 0, "nobody is held", timeout=1.5)
