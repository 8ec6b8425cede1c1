"""README's example works as it is written: the rules and Envoy's configuration that come with the server."""

import shlex
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lib.envoy import Envoy
from lib.http import Response, send, statuses
from lib.processes import free_port
from lib.tollgate import BINARY, Tollgate
from lib.wait import room_in_window, seconds_left, until

CONFIG = Path(__file__).resolve().parents[2] / "config"
RULES = CONFIG / "rules"


@pytest.fixture(scope="module")
def tollgate(shared) -> Tollgate:
    return Tollgate(shared, RULES)


@pytest.fixture(scope="module")
def envoy(shared, tollgate) -> Envoy:
    """The example, with its ports replaced by free ones and nothing else."""
    upstream = free_port()
    # what README starts
    shared.start("upstream", [sys.executable, "-m", "http.server", str(upstream), "--bind", "127.0.0.1"])
    until(lambda: socket.create_connection(("127.0.0.1", upstream)).close() is None, "the upstream listens")
    text = (CONFIG / "envoy.yaml").read_text()
    for written, real in ((9901, 0), (10000, 0), (9000, upstream), (8081, tollgate.grpc)):
        assert text.count(f"port_value: {written} ") == 1, written
        text = text.replace(f"port_value: {written} ", f"port_value: {real} ")
    file = shared.folder / "envoy.yaml"
    file.write_text(text)
    return Envoy.of_file(shared, file)


def user(tollgate: Tollgate, name: str) -> Response:
    return tollgate.json("example", {"user": name})


def test_the_rules_have_neither_errors_nor_warnings():
    checked = subprocess.run([BINARY, "check", "--strict", str(RULES)], capture_output=True, text=True, timeout=20)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "0 warnings" in checked.stdout


def test_the_sixth_request_of_a_minute_is_refused(envoy):
    room_in_window(60, 5)
    answers = [send(envoy.port("http"), "/") for _ in range(6)]
    assert statuses(answers) == [200] * 5 + [429]
    assert answers[5]["x-ratelimit-limit"] == "5, 5;w=60"
    assert answers[5]["x-ratelimit-remaining"] == "0"
    assert 0 <= int(answers[5]["retry-after"]) - seconds_left(60) <= 2


def test_the_address_is_the_callers_own_whatever_it_claims(envoy):
    room_in_window(60, 5)
    answers = [send(envoy.port("http"), "/", {"x-forwarded-for": f"10.0.0.{place}"}) for place in range(8)]
    assert statuses(answers)[-1] == 429


def test_the_line_that_the_server_prints_works(tollgate):
    line = next(line for line in tollgate.log().splitlines() if "try: curl" in line)
    curl, silent, url, data, body = shlex.split(line.split("try: ", 1)[1])
    assert (curl, silent, url, data) == ("curl", "-s", f"localhost:{tollgate.http}/json", "-d")
    answer = send(tollgate.http, "/json", method="POST", body=body.encode())
    assert (answer.status, answer.json()["statuses"][0]["currentLimit"]["name"]) == (200, "user")


def test_a_user_has_a_burst_of_ten(tollgate):
    answers = statuses([user(tollgate, "burst") for _ in range(14)])
    # one a second comes back meanwhile
    assert answers[:10] == [200] * 10
    assert 429 in answers[10:]


def test_exports_queue_and_searches_are_only_watched(tollgate):
    searches = [tollgate.json("example", {"path": "/search?q=1"}) for _ in range(5)]
    assert statuses(searches) == [200] * 5
    exports = [tollgate.json("example", {"path": f"/export/{place}"}) for place in range(3)]
    # alone in the queue, each waits for its turn and passes
    assert statuses(exports) == [200] * 3


def test_an_api_key_has_a_daily_quota_and_few_deletions(tollgate):
    room_in_window(3600, 5)
    assert tollgate.json("example", {"api_key": "a"}).json()["statuses"][0]["limitRemaining"] == 999
    deletions = [tollgate.json("example", {"api_key": "a", "action": "delete"}, hitsAddend=20) for _ in range(2)]
    assert statuses(deletions) == [200, 429]
