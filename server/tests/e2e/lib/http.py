"""A small HTTP client: one connection a request, unless it is given one."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def __getitem__(self, name: str) -> str | None:
        """The value of a header; it has to be the only one of its name."""
        values = self.all(name)
        assert len(values) <= 1, f"{name} comes more than once: {values}"
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)


def send(
    port: int,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = 10.0,
) -> Response:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        return send_on(connection, path, headers, method=method, body=body)
    finally:
        connection.close()


def send_on(
    connection: http.client.HTTPConnection,
    path: str,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
) -> Response:
    connection.request(method, path, body=body, headers=headers or {})
    answer = connection.getresponse()
    return Response(answer.status, answer.getheaders(), answer.read())


def send_many(count: int, port: int, path: str, headers: dict[str, str] | None = None) -> list[Response]:
    """`count` requests at once, each from a thread of its own."""
    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda _: send(port, path, headers), range(count)))


def statuses(responses: list[Response]) -> list[int]:
    return [response.status for response in responses]
