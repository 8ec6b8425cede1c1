"""The console in real Chromium, and `tollgate top`: what they show, how soon, and what a keyboard can do."""

import itertools
import subprocess
import time
import uuid

import grpc
import pytest
from playwright.sync_api import expect, sync_playwright
from tollgate.v1 import breaker_pb2, breaker_pb2_grpc

from lib.console import ARGUMENTS, CONTRASTS, EXECUTABLE, SCREENSHOTS, Console, state
from lib.http import send
from lib.load import Load
from lib.redis import Redis
from lib.rules_folder import Renamed
from lib.tollgate import BINARY, Tollgate
from lib.wait import until

RULES = """
domain: shop
descriptors:
  - key: user
    rate_limit: { unit: minute, requests_per_unit: 60 }
  - key: trial
    rate_limit: { unit: day, requests_per_unit: 3 }
  - key: ip
    shadow_mode: true
    rate_limit: { unit: minute, requests_per_unit: 30, on_failure: allow }
  - key: tenant
    rate_limit: { unit: second, requests_per_unit: 50, algorithm: token_bucket, burst: 80, on_failure: local }
    descriptors:
      - key: route
        rate_limit: { unit: second, requests_per_unit: 4, algorithm: sliding_window, on_failure: deny }
"""
BROKEN = RULES.replace("requests_per_unit: 3 }", "requests_per_unit: three }")
BROKEN_LINE = 1 + BROKEN[: BROKEN.index("three")].count("\n")
TOKEN = "letmein"
SOON = 5
"""Seconds within which a refused key is on the page."""
CONTRAST = 4.5
"""The least contrast of a text to its ground: WCAG 2.2, level AA."""
PAUSE = 0.004
"""Seconds between two questions of a caller."""


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=EXECUTABLE, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def watch(chromium):
    """Opens the console of a server. At the end of the test no page may have had an error or asked anybody else."""
    consoles: list[Console] = []

    def watch(server: Tollgate, **more) -> Console:
        consoles.append(Console(chromium, server, **more))
        return consoles[-1]

    yield watch
    for console in consoles:
        console.close()
        assert console.errors == []
        assert [url for url in console.requests if not url.startswith(f"{console.origin}/console")] == []


def server_on(processes, redis: Redis, **more) -> Tollgate:
    settings = {"store.redis.url": redis.address, "admin.token": TOKEN, "breaker.mode": "enforce"}
    return Tollgate(processes, RULES, settings=settings, **more)


@pytest.fixture(scope="module")
def server(shared) -> Tollgate:
    return server_on(shared, Redis(shared))


def questions(guests: bool):
    """What callers of a small shop ask, some of them too often. Guests come only once."""
    for at in itertools.count():
        yield {"user": ("ann", "ben", "eve")[at % 3]}
        yield {"ip": f"10.0.0.{1 + at % 4}"}
        yield {"tenant": ("acme", "globex", "initech")[at % 3]}
        yield {"tenant": "acme", "route": "/export"}
        if guests:
            yield {"user": f"guest-{at}"}
            yield {"ip": f"10.1.{at // 256 % 256}.{at % 256}"}


def asker(server: Tollgate, *, guests: bool = False):
    def make():
        ask = questions(guests)

        def once() -> int:
            # callers pause: this machine is small, and what is measured here is not its speed
            time.sleep(PAUSE)
            return server.json("shop", next(ask)).status

        return once

    return make


@pytest.fixture(scope="module")
def busy(server):
    """The server under traffic of which some is refused."""
    with Load(asker(server), threads=2):
        until(lambda: state(server)["now"]["keys"]["refused"], "something is refused", timeout=20)
        yield server


def if_pictures_wait_for(server: Tollgate, seconds: int) -> None:
    """Pictures are to show some past; tests need none."""
    if SCREENSHOTS:
        until(lambda: len(state(server)["history"]) > seconds, f"{seconds} s of history", timeout=seconds + 30)


def report(server: Tollgate, target: str, failures: int, successes: int) -> None:
    """A client of the fleet's breakers tells the outcomes of its calls."""
    key = breaker_pb2.CircuitKey(namespace="prod", target=target)
    reporter = breaker_pb2.Reporter(id=uuid.uuid4().bytes, incarnation=1)
    with grpc.insecure_channel(server.address) as channel:
        breakers = breaker_pb2_grpc.CircuitBreakersStub(channel)

        def tell(**delta) -> breaker_pb2.Directive:
            deltas = [breaker_pb2.OutcomeDelta(key=key, **delta)]
            asked = breaker_pb2.ReportOutcomesRequest(reporter=reporter, deltas=deltas)
            return breakers.ReportOutcomes(asked, timeout=5).directives[0]

        # outcomes count only for the epoch in which they were admitted: the first answer tells it
        epoch = tell(sequence=1).epoch
        tell(sequence=2, epoch=epoch, failure=failures, success=successes)


def circuit(server: Tollgate, target: str) -> dict | None:
    found = [each for each in send(server.admin, "/circuits").json()["circuits"] if each["target"] == target]
    return found[0] if found else None


def rules_of(server: Tollgate) -> list[str]:
    """The rules in force, without what is said of a load that failed."""
    return [line for line in server.rlconfig().splitlines() if not line.startswith("#")]


def first_refusal(server: Tollgate, entries: dict[str, str]) -> float:
    """Asks until it is refused; when the refused question was put."""
    for _ in range(10):
        asked = time.monotonic()
        if server.json("shop", entries).status == 429:
            return asked
    raise AssertionError(f"{entries} is never refused")


# --- what it shows


def test_a_refused_key_and_its_rule_are_on_the_page_within_five_seconds(busy, watch):
    console = watch(busy)
    key = f"trial={uuid.uuid4().hex[:12]}"
    refused = first_refusal(busy, dict([key.split("=")]))
    shown, rule, refusals, bounds, limit, *_ = console.seen("refused", key)
    took = time.monotonic() - refused
    print(f"refused, then shown {took:.2f} s later")
    assert took <= SOON
    assert (shown, rule, refusals, bounds, limit) == (key, "shop.trial", "1", "exact", "3")
    assert console.seen("rules-table", "shop.trial")[1] == "refusing"


def test_top_shows_the_refused_key_and_its_rule(server):
    key = f"trial={uuid.uuid4().hex[:12]}"
    first_refusal(server, dict([key.split("=")]))

    def shown() -> list[str]:
        command = [BINARY, "top", "--once", "--rows", "20", "--admin", f"http://127.0.0.1:{server.admin}"]
        page = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout
        return [line for line in page.splitlines() if key in line]

    assert "shop.trial" in until(shown, "top shows the key")[0]


def test_without_redis_the_page_tells_it_and_what_is_answered_instead(own, watch):
    redis = Redis(own)
    server = server_on(own, redis)
    # who is refused already asks Redis no more: only guests need an answer for certain
    with Load(asker(server, guests=True), threads=1):
        console = watch(server)
        expect(console.find("#store-note")).to_have_text("Redis answers")
        if_pictures_wait_for(server, 15)
        redis.process.kill()
        expect(console.find("#alerts")).to_contain_text("The store is down", timeout=15_000)
        expect(console.find("#store-note")).to_have_text("Redis is down")
        answered = {}
        for rule in ("shop.user", "shop.ip", "shop.tenant", "shop.tenant.route"):
            # the circuit to Redis is open: nobody waits for it any more
            row = console.row("fallbacks", rule, exact=True).filter(has_text="open").first
            row.wait_for(timeout=15_000)
            answered[rule] = row.locator("td").all_inner_texts()[-2]
        if_pictures_wait_for(server, 25)
        console.picture("redis-down")
        assert answered == {
            "shop.user": "error",
            "shop.ip": "allow",
            "shop.tenant": "share",
            "shop.tenant.route": "deny",
        }
        redis.start()
        expect(console.find("#alerts")).not_to_contain_text("The store is down", timeout=15_000)
        expect(console.find("#store-note")).to_have_text("Redis answers")


def test_a_bad_reload_is_told_with_its_line_and_the_last_good_rules_stay(own, tmp_path, watch):
    folder = Renamed(tmp_path / "rules")
    folder.publish(RULES)
    server = Tollgate(own, folder.base)
    console = watch(server)
    expect(console.find("#config-note")).to_contain_text("loaded")
    in_force = rules_of(server)
    first_refusal(server, {"trial": "before"})

    folder.publish(BROKEN)
    told = f"rules.yaml:{BROKEN_LINE}:"
    expect(console.find("#alerts")).to_contain_text(told, timeout=15_000)
    expect(console.find("#alerts")).to_contain_text("stay in force")
    expect(console.find("#problems")).to_contain_text(told)
    expect(console.find("#config-note")).to_contain_text("the last load was refused")
    first_refusal(server, {"trial": "after"})
    assert rules_of(server) == in_force
    console.seen("refused", "trial=after")
    if_pictures_wait_for(server, 12)
    console.picture("bad-reload")

    folder.publish(RULES)
    expect(console.find("#alerts")).to_be_empty(timeout=15_000)


def test_a_server_that_ends_is_not_shown_as_live(own, watch):
    server = Tollgate(own, RULES)
    console = watch(server)
    server.process.kill()
    expect(console.find("#live")).to_contain_text("no news since", timeout=15_000)
    # what Chromium itself says of a connection that is refused
    assert all("ERR_" in error for error in console.errors), console.errors
    console.errors.clear()


# --- what it can do


def fill_by_keyboard(console: Console, target: str, reason: str) -> None:
    """From the top of the page to the token's field: Tab, Enter, arrows and letters."""
    console.tab_to("override-open")
    console.press("Enter")
    assert console.focused("name") == "namespace", "the dialog takes the focus"
    console.type("prod")
    console.press("Tab")
    console.type(target)
    console.tab_to("mode", "name", most=3)
    # from "force open" to "disable"
    console.press("ArrowDown")
    console.tab_to("ttl_seconds", "name", most=1)
    # from 15 minutes to 1 hour
    console.press("ArrowDown")
    console.tab_to("reason", "name", most=1)
    console.type(reason)
    console.tab_to("actor", "name", most=1)
    console.type("ann")
    console.tab_to("token", "name", most=1)


def test_a_keyboard_alone_overrides_a_breaker(server, watch):
    console = watch(server)
    fill_by_keyboard(console, "bank", "the bank is moved")
    console.type(TOKEN)
    console.press("Enter")
    expect(console.find("#override")).to_be_hidden()
    forced = circuit(server, "bank")
    assert forced["state"] == "disabled"
    override = forced["override"]
    assert (override["actor"], override["reason"]) == ("ann", "the bank is moved")
    assert 3500 < override["ttl_seconds"] <= 3600
    assert "the bank is moved (ann" in console.seen("circuits", "prod / bank")[7]

    # the button in its row opens the form for this circuit, and can end what was begun
    console.tab_to("Override prod / bank", "aria-label")
    console.press("Enter")
    assert (console.focused("name"), console.find("[name=target]").input_value()) == ("mode", "bank")
    expect(console.find("[name=mode]")).to_have_value("none")
    console.find("[name=token]").evaluate("field => field.form.elements.reason.focus()")
    console.type("it is back")
    console.press("Enter")
    expect(console.find("#override")).to_be_hidden()
    until(lambda: not (circuit(server, "bank") or {}).get("override"), "the override has ended")


def test_without_the_token_nothing_is_overridden_and_it_is_said(server, watch):
    console = watch(server)
    fill_by_keyboard(console, "shipping", "no token")
    console.press("Enter")
    token = console.find("[name=token]")
    assert token.evaluate("field => field.validity.valueMissing"), "the browser asks for it"
    expect(token).to_be_focused()
    assert f"{console.origin}/console/override" not in console.requests

    console.type("wrong")
    console.press("Enter")
    answer = console.find("#override-answer")
    expect(answer).to_be_visible()
    expect(answer).to_contain_text("token")
    expect(console.find("#override")).to_be_visible()
    console.press("Escape")
    expect(console.find("#override")).to_be_hidden()
    assert circuit(server, "shipping") is None
    # Chromium itself notes the refused request
    assert all("401" in error for error in console.errors) and console.errors
    console.errors.clear()


def test_a_server_without_a_token_says_that_changes_are_switched_off(own, watch):
    console = watch(Tollgate(own, RULES))
    console.tab_to("override-open")
    console.press("Enter")
    expect(console.find("#override-closed")).to_be_visible()
    expect(console.find("#override-closed")).to_contain_text("admin.token")
    expect(console.find("#override [type=submit]")).to_be_disabled()


# --- how it looks


@pytest.mark.parametrize(
    ("scheme", "failing", "healthy"), [("light", "payments", "search"), ("dark", "ledger", "catalog")]
)
def test_every_text_has_contrast_enough(busy, watch, scheme, failing, healthy):
    console = watch(busy, scheme=scheme)
    if_pictures_wait_for(busy, 60)
    report(busy, failing, failures=150, successes=50)
    report(busy, healthy, failures=0, successes=200)
    assert "0 of 200" in console.seen("circuits", f"prod / {healthy}")
    console.seen("circuits", f"prod / {failing}")
    assert "closed → open" in console.seen("changes", f"prod / {failing}")
    console.seen("refused", "user=")
    console.picture(scheme)
    texts = console.page.evaluate(CONTRASTS)
    console.find("#override-open").click()
    dialog = console.page.evaluate(CONTRASTS)
    assert len(dialog) > len(texts) > 80
    pale = [each for each in dialog if each["contrast"] < CONTRAST]
    assert not pale, pale
    ground = console.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(17, 22, 29)") == (scheme == "dark"), "the scheme that the reader wants"


@pytest.mark.parametrize("width", [390, 1360])
def test_nothing_hangs_over_the_edge(busy, watch, width):
    console = watch(busy)
    console.page.set_viewport_size({"width": width, "height": 800})
    console.seen("refused", "user=")
    assert console.page.evaluate("document.documentElement.scrollWidth") <= width


def test_all_of_the_page_comes_from_the_admin_port(server, watch):
    console = watch(server)
    console.page.get_by_text("Effective settings and who set them").click()
    console.seen("settings", "admin.token")
    assert TOKEN not in console.page.content()
    paths = {url.removeprefix(console.origin) for url in console.requests}
    assert {"/console", "/console/main.js", "/console/style.css", "/console/events"} <= paths
    assert all(url.startswith(f"{console.origin}/console") for url in console.requests)
