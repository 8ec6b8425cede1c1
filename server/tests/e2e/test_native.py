"""The native API of the real server, called by gRPC's own client and over HTTP."""

import json
import uuid

import grpc
import pytest
from tollgate.v1 import admin_pb2, admin_pb2_grpc, check_pb2, check_pb2_grpc

from lib.http import send
from lib.rls import Client
from lib.rls import descriptor as rls_descriptor
from lib.tollgate import Tollgate

RULES = """
domain: shop
descriptors:
  - key: three
    rate_limit: { unit: day, requests_per_unit: 3 }
  - key: thousand
    rate_limit: { unit: day, requests_per_unit: 1000 }
  - key: queue
    rate_limit: { unit: second, requests_per_unit: 1, algorithm: leaky_bucket, queue: 1, max_hold: 10s }
"""
TOKEN = "letmein"


@pytest.fixture(scope="module")
def server(shared) -> Tollgate:
    return Tollgate(shared, RULES, settings={"admin.token": TOKEN})


@pytest.fixture(scope="module")
def channel(server):
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def limiter(channel) -> check_pb2_grpc.RateLimiterStub:
    return check_pb2_grpc.RateLimiterStub(channel)


@pytest.fixture
def value() -> str:
    return uuid.uuid4().hex


def descriptor(key: str, value: str) -> check_pb2.Descriptor:
    return check_pb2.Descriptor(entries=[check_pb2.Entry(key=key, value=value)])


def check(key: str, value: str, **more) -> check_pb2.CheckRequest:
    return check_pb2.CheckRequest(domain="shop", descriptors=[descriptor(key, value)], **more)


def test_check_and_envoys_api_spend_one_limit(server, limiter, value):
    assert limiter.Check(check("three", value), timeout=5).limits[0].remaining == 2
    envoy = Client(server.address)
    assert envoy.ask("shop", rls_descriptor(("three", value))).statuses[0].limit_remaining == 1
    envoy.close()
    assert limiter.Check(check("three", value), timeout=5).allowed
    refused = limiter.Check(check("three", value), timeout=5)
    assert not refused.allowed and refused.HasField("retry_after") and refused.HasField("retry_jitter")


def test_an_error_carries_its_code_and_field(limiter):
    with pytest.raises(grpc.RpcError) as error:
        limiter.Check(check_pb2.CheckRequest(), timeout=5)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "domain: must not be empty"


def test_a_stream_answers_every_check_by_its_id(limiter, value):
    def asks():
        for batch in range(20):
            items = [
                check_pb2.CheckItem(id=batch * 100 + at, check=check("thousand", value)) for at in range(100)
            ]
            yield check_pb2.CheckStreamRequest(items=items)

    answers = {}
    for message in limiter.CheckStream(asks(), timeout=20):
        for answer in message.answers:
            assert answer.id not in answers
            answers[answer.id] = answer.decision.allowed
    assert len(answers) == 2000
    assert sum(answers.values()) == 1000


def test_a_turn_in_a_queue_is_told_and_not_held(limiter, value):
    assert not limiter.Check(check("queue", value), timeout=5).HasField("wait")
    waits = limiter.Check(check("queue", value), timeout=5).wait
    assert 0 < waits.ToMicroseconds() <= 1_000_000
    assert not limiter.Check(check("queue", value), timeout=5).allowed


def test_http_asks_the_same_limits(server, limiter, value):
    assert limiter.Check(check("three", value, cost=2), timeout=5).allowed
    body = {"domain": "shop", "descriptors": [{"entries": [{"key": "three", "value": value}]}]}
    asked = [send(server.http, "/v1/check", method="POST", body=json.dumps(body).encode()) for _ in range(2)]
    assert [answer.status for answer in asked] == [200, 429]
    assert json.loads(asked[0].body)["limits"][0].get("remaining", "0") == "0"
    assert int(asked[1]["retry-after"]) > 0


def test_keys_are_read_and_reset_by_whoever_has_the_token(channel, limiter, value):
    admin = admin_pb2_grpc.AdminStub(channel)
    assert limiter.Check(check("three", value, cost=3), timeout=5).allowed
    read = admin_pb2.ReadKeyRequest(domain="shop", descriptors=[descriptor("three", value)])
    with pytest.raises(grpc.RpcError) as error:
        admin.ReadKey(read, timeout=5)
    assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
    token = [("authorization", f"Bearer {TOKEN}")]
    assert admin.ReadKey(read, timeout=5, metadata=token).keys[0].used == 3
    reset = admin_pb2.ResetKeyRequest(domain="shop", descriptors=[descriptor("three", value)])
    assert admin.ResetKey(reset, timeout=5, metadata=token).reset == [True]
    assert limiter.Check(check("three", value), timeout=5).limits[0].remaining == 2


def test_requests_are_counted_by_api(server, limiter, value):
    def count(api: str) -> float:
        return server.metric(f'tollgate_requests_total{{api="{api}",result="ok"}}')

    before = count("check")
    limiter.Check(check("three", value), timeout=5)
    assert count("check") == before + 1
    assert count("check_stream") >= 1000 and count("http_check") >= 1
