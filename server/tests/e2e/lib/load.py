"""Callers that never pause, to see whether anybody notices a change."""

import http.client
import threading
from collections import Counter
from collections.abc import Callable

from . import http as web
from .wait import until

Ask = Callable[[], object]


class Load:
    """`with Load(...)` asks from several threads until the end of the block; every answer is counted.

    `asker` makes one `Ask` for each thread. An exception is an answer too.
    """

    def __init__(self, asker: Callable[[], Ask], threads: int = 4):
        self.asker = asker
        self.answers: Counter = Counter()
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    @property
    def total(self) -> int:
        with self._lock:
            return sum(self.answers.values())

    def more(self, count: int) -> None:
        """Waits until `count` more answers have come."""
        goal = self.total + count
        until(lambda: self.total >= goal, f"{count} more answers", timeout=30)

    def _run(self) -> None:
        ask = self.asker()
        while not self._ended.is_set():
            try:
                answer = ask()
            except Exception as error:  # noqa: BLE001
                answer = repr(error)
            with self._lock:
                self.answers[answer] += 1

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        self.more(20)
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(15)


def through_http(port: int, path: str, headers: dict[str, str] | None = None) -> Callable[[], Ask]:
    """Asks with kept-alive connections; the answer is the status."""

    def asker() -> Ask:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        return lambda: web.send_on(connection, path, headers).status

    return asker
