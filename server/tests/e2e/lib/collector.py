"""A collector of traces for Envoy and for the server: OTLP over gRPC, read field by field."""

import threading
from concurrent import futures
from dataclasses import dataclass

import grpc

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
SERVER = 2
CLIENT = 3


@dataclass(frozen=True)
class Span:
    """What the tests need of a span; identifiers in hex."""

    service: str
    trace: str
    id: str
    parent: str
    name: str
    kind: int


def varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data: bytes):
    """Number and value of every field of a message: an integer, or bytes."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        match tag & 7:
            case 0:
                value, at = varint(data, at)
            case 2:
                length, at = varint(data, at)
                value, at = data[at : at + length], at + length
            case fixed:
                width = {1: 8, 5: 4}[fixed]
                value, at = data[at : at + width], at + width
        yield tag >> 3, value


def all_of(data: bytes, *path: int) -> list[bytes]:
    """The values at the end of a path of field numbers."""
    if not path:
        return [data]
    return [found for number, value in fields(data) if number == path[0] for found in all_of(value, *path[1:])]


def service_name(resource_spans: bytes) -> str:
    for attribute in all_of(resource_spans, 1, 1):
        if all_of(attribute, 1) == [b"service.name"]:
            return all_of(attribute, 2, 1)[0].decode()
    return ""


def spans(request: bytes):
    for resource_spans in all_of(request, 1):
        service = service_name(resource_spans)
        for span in all_of(resource_spans, 2, 2):
            told = dict(fields(span))
            yield Span(
                service=service,
                trace=told[1].hex(),
                id=told[2].hex(),
                parent=told.get(4, b"").hex(),
                name=told[5].decode(),
                kind=told.get(6, 0),
            )


class Collector(grpc.GenericRpcHandler):
    """Listens on a free port until it is closed."""

    def __init__(self):
        self._lock = threading.Lock()
        self._spans: list[Span] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((self,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()

    def service(self, details):
        if details.method != EXPORT:
            return None
        return grpc.unary_unary_rpc_method_handler(self._export)

    def _export(self, request: bytes, _context) -> bytes:
        with self._lock:
            self._spans.extend(spans(request))
        return b""

    def spans(self, service: str) -> list[Span]:
        with self._lock:
            return [span for span in self._spans if span.service == service]

    def close(self) -> None:
        self._server.stop(None)
