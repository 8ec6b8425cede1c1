"""`POST /json` and `GET /auth/{domain}` as any HTTP client calls them: here Python's own urllib."""

import json
import urllib.error
import urllib.request
import uuid

import pytest

from lib.http import Response
from lib.tollgate import Tollgate

RULES = """
domain: shop
descriptors:
  - key: two
    rate_limit: { unit: day, requests_per_unit: 2 }
  - key: path
    value: /export*
    rate_limit: { unit: day, requests_per_unit: 2, name: export }
"""


@pytest.fixture(scope="module")
def server(shared) -> Tollgate:
    return Tollgate(shared, RULES)


@pytest.fixture
def value() -> str:
    return uuid.uuid4().hex


def call(server: Tollgate, path: str, body: bytes | None = None, method: str | None = None, **headers) -> Response:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    request = urllib.request.Request(f"http://127.0.0.1:{server.http}{path}", body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return Response(answer.status, answer.getheaders(), answer.read())
    except urllib.error.HTTPError as error:
        return Response(error.code, error.headers.items(), error.read())


def asked(value: str, **descriptor) -> dict:
    return {"domain": "shop", "descriptors": [{"entries": [{"key": "two", "value": value}], **descriptor}]}


def post(server: Tollgate, message: dict | bytes) -> Response:
    return call(server, "/json", message if isinstance(message, bytes) else json.dumps(message).encode())


def test_json_passes_with_200_and_refuses_with_429(server, value):
    answers = [post(server, asked(value)) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert {answer["content-type"] for answer in answers} == {"application/json"}
    first, last = answers[0].json(), answers[2].json()
    limit = {"requestsPerUnit": 2, "unit": "DAY"}
    seconds = first["statuses"][0].pop("durationUntilReset")
    assert 0 < int(seconds.removesuffix("s")) <= 86400
    assert first == {"overallCode": "OK", "statuses": [{"code": "OK", "currentLimit": limit, "limitRemaining": 1}]}
    # what is 0 is left out
    assert (last["overallCode"], last["statuses"][0].get("limitRemaining")) == ("OVER_LIMIT", None)


def test_json_takes_names_enums_and_large_numbers_in_every_form(server, value):
    camel = asked(value, hitsAddend="1", limit={"requestsPerUnit": 9, "unit": "DAY"})
    snake = asked(value, hits_addend=1, limit={"requests_per_unit": 9, "unit": 4})
    assert [post(server, each).json()["statuses"][0]["limitRemaining"] for each in (camel, snake)] == [8, 7]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"domain":"shop"}',
        b'{"domain":"","descriptors":[{}]}',
        b'{"domain":"shop","descriptors":[{}],"no_such_field":1}',
        b'{"domain":"shop","descriptors":[{"limit":{"unit":"UNKNOWN"}}]}',
        b'{"domain":"shop","descriptors":[{"hitsAddend":"9223372036854775808"}]}',
        b'{"domain":"\xff","descriptors":[{}]}',
        b'{"domain":"shop","descriptors":[{}]} more',
    ],
)
def test_json_answers_400_to_what_is_no_request(server, body):
    answer = post(server, body)
    assert (answer.status, answer.body) == (400, b"Bad Request\n")
    assert answer["content-type"] == "text/plain; charset=utf-8"


def test_json_takes_any_method_and_content_type(server, value):
    body = json.dumps(asked(value, hitsAddend=0)).encode()
    for method in ("GET", "POST", "PUT", "DELETE"):
        assert call(server, "/json", body, method, content_type="text/plain").status == 200, method


def test_auth_tells_what_is_left_and_when_to_come_again(server, value):
    ask = lambda query="": call(server, f"/auth/shop{query}", x_forwarded_uri=f"/export/{value}?q=1")  # noqa: E731
    answers = [ask() for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert [answer["ratelimit"].split(";t=")[0] for answer in answers] == [f'"export";r={left}' for left in (1, 0, 0)]
    assert {answer["ratelimit-policy"] for answer in answers} == {'"export";q=2;w=86400'}
    assert [answer["retry-after"] for answer in answers[:2]] == [None, None]
    assert answers[2]["retry-after"] == answers[2]["ratelimit"].split(";t=")[1]
    assert ask("?deny_status=403").status == 403
    assert ask("?deny_status=200").status == 400


def test_auth_passes_what_no_rule_limits(server):
    for domain in ("shop", "no-such-domain"):
        answer = call(server, f"/auth/{domain}", x_forwarded_uri="/index")
        assert (answer.status, answer["ratelimit"], answer["retry-after"]) == (200, None, None)
