"""Waiting for something to become true, and for a window of time that is long enough."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.02


class Hopeless(AssertionError):
    """What is waited for cannot happen any more."""


def until(check: Callable[[], T], what: str, timeout: float = 10.0) -> T:
    """The first truthy result of `check`; an exception but `Hopeless` counts as not yet."""
    deadline = time.monotonic() + timeout
    last: object = None
    while True:
        try:
            last = check()
            if last:
                return last
        except Hopeless:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it may be over at the next look
            last = error
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what}; last seen: {last!r}")
        time.sleep(PAUSE)


def seconds_left(window: int) -> int:
    """Whole seconds until the fixed window of `window` seconds ends, as the server tells them."""
    now = int(time.time())
    return window - now % window


def room_in_window(window: int, needed: int) -> None:
    """Returns when the fixed window of `window` seconds lasts for `needed` more seconds."""
    until(lambda: seconds_left(window) > needed, f"{needed} s in a window of {window} s", timeout=needed + 5)
