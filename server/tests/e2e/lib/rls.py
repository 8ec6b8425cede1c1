"""A plain gRPC client of the rate limit service, made from the protos of this repository."""

import grpc
from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc
from envoy.type.v3 import ratelimit_unit_pb2
from google.protobuf.wrappers_pb2 import UInt32Value, UInt64Value

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
Descriptor = ratelimit_pb2.RateLimitDescriptor
Request = rls_pb2.RateLimitRequest
Response = rls_pb2.RateLimitResponse
Code = rls_pb2.RateLimitResponse.Code
Unit = ratelimit_unit_pb2.RateLimitUnit

DEADLINE = 10


def descriptor(
    *entries: tuple[str, str],
    hits: int | None = None,
    refund: bool = False,
    limit: tuple[int, int] | tuple[int, int, int] | None = None,
) -> Descriptor:
    """One descriptor; `limit` is requests, unit and perhaps a multiplier."""
    made = Descriptor(
        entries=[Descriptor.Entry(key=key, value=value) for key, value in entries],
        hits_addend=None if hits is None else UInt64Value(value=hits),
        is_negative_hits=refund,
    )
    if limit:
        requests, unit, *multiplier = limit
        made.limit.requests_per_unit, made.limit.unit = requests, unit
        if multiplier:
            made.limit.unit_multiplier.CopyFrom(UInt32Value(value=multiplier[0]))
    return made


class Client:
    """One connection to a server."""

    def __init__(self, target: str, **channel_options):
        options = list(channel_options.items())
        self.channel = grpc.insecure_channel(target, options=options)
        self.stub = rls_pb2_grpc.RateLimitServiceStub(self.channel)

    def ask(self, domain: str, *descriptors: Descriptor, hits: int = 0, timeout: float = DEADLINE, **call) -> Response:
        request = Request(domain=domain, descriptors=descriptors, hits_addend=hits)
        return self.stub.ShouldRateLimit(request, timeout=timeout, **call)

    def start(self, domain: str, *descriptors: Descriptor, timeout: float = DEADLINE) -> grpc.Future:
        """A call that can be cancelled."""
        return self.stub.ShouldRateLimit.future(Request(domain=domain, descriptors=descriptors), timeout=timeout)

    def ask_raw(self, message: bytes) -> bytes:
        """Sends bytes as they are."""
        same = lambda message: message  # noqa: E731
        call = self.channel.unary_unary(METHOD, request_serializer=same, response_deserializer=same)
        return call(message, timeout=DEADLINE)

    def fails(self, domain: str, *descriptors: Descriptor, **call) -> tuple[grpc.StatusCode, str]:
        """Code and text of a call that has to fail."""
        try:
            answer = self.ask(domain, *descriptors, **call)
        except grpc.RpcError as error:
            return error.code(), error.details()
        raise AssertionError(f"an answer where an error was expected: {answer}")

    def close(self) -> None:
        self.channel.close()
