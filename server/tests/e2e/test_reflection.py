"""A client that knows nothing but the address learns the API from the server."""

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from lib.tollgate import Tollgate

RULES = """
domain: shop
descriptors:
  - key: three
    rate_limit: { unit: hour, requests_per_unit: 3 }
"""
RLS = "envoy.service.ratelimit.v3.RateLimitService"
HEALTH = "grpc.health.v1.Health"


@pytest.fixture(scope="module")
def channel(shared):
    with grpc.insecure_channel(Tollgate(shared, RULES).address) as channel:
        yield channel


@pytest.fixture
def learned(channel) -> ProtoReflectionDescriptorDatabase:
    return ProtoReflectionDescriptorDatabase(channel)


def test_v1alpha_lists_the_services(learned):
    assert {RLS, HEALTH, "tollgate.v1.RateLimiter", "tollgate.v1.Admin"} <= set(learned.get_services())


def test_v1alpha_resolves_every_field_of_envoy_1_40(learned):
    pool = descriptor_pool.DescriptorPool(learned)
    asked = pool.FindMessageTypeByName("envoy.extensions.common.ratelimit.v3.RateLimitDescriptor")
    assert {name: field.number for name, field in asked.fields_by_name.items()} == {
        "entries": 1,
        "limit": 2,
        "hits_addend": 3,
        "is_negative_hits": 4,
    }
    limit = pool.FindMessageTypeByName(f"{asked.full_name}.RateLimitOverride")
    assert limit.fields_by_name["unit_multiplier"].number == 3
    answered = pool.FindMessageTypeByName("envoy.service.ratelimit.v3.RateLimitResponse.RateLimit")
    assert answered.fields_by_name["unit_multiplier"].number == 4
    assert {"Check", "Watch"} <= set(pool.FindServiceByName(HEALTH).methods_by_name.keys())


def test_a_client_can_call_with_what_it_has_learned(channel, learned):
    pool = descriptor_pool.DescriptorPool(learned)
    method = pool.FindServiceByName(RLS).methods_by_name["ShouldRateLimit"]
    request, response = (message_factory.GetMessageClass(each) for each in (method.input_type, method.output_type))
    call = channel.unary_unary(
        f"/{RLS}/{method.name}", request_serializer=request.SerializeToString, response_deserializer=response.FromString
    )
    asked = request(domain="shop")
    asked.descriptors.add(is_negative_hits=False).entries.add(key="three", value="learned")
    assert [call(asked, timeout=5).statuses[0].limit_remaining for _ in range(3)] == [2, 1, 0]


class V1:
    """The messages of `grpc.reflection.v1`: those of v1alpha under another name."""

    def __init__(self) -> None:
        file = descriptor_pb2.FileDescriptorProto()
        reflection_pb2.DESCRIPTOR.CopyToProto(file)
        file.package = "grpc.reflection.v1"
        for message in file.message_type:
            for field in message.field:
                if field.type_name:
                    field.type_name = field.type_name.replace(".v1alpha.", ".v1.")
        del file.service[:]
        pool = descriptor_pool.DescriptorPool()
        pool.Add(file)
        names = ("ServerReflectionRequest", "ServerReflectionResponse")
        found = (pool.FindMessageTypeByName(f"{file.package}.{name}") for name in names)
        self.request, self.response = map(message_factory.GetMessageClass, found)

    def ask(self, channel: grpc.Channel, **request):
        call = channel.stream_stream(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            request_serializer=self.request.SerializeToString,
            response_deserializer=self.response.FromString,
        )
        return next(call(iter([self.request(**request)]), timeout=5))


def test_v1_lists_the_services(channel):
    answer = V1().ask(channel, list_services="*")
    assert {RLS, HEALTH} <= {service.name for service in answer.list_services_response.service}


def test_v1_resolves_a_symbol_to_its_file(channel):
    answer = V1().ask(channel, file_containing_symbol="envoy.service.ratelimit.v3.RateLimitRequest")
    files = map(descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    assert "RateLimitRequest" in {message.name for file in files for message in file.message_type}


def test_v1_says_not_found_for_what_it_does_not_have(channel):
    not_found = grpc.StatusCode.NOT_FOUND
    try:
        answer = V1().ask(channel, file_containing_symbol="no.such.Symbol")
    except grpc.RpcError as error:
        # the library that we use ends the stream instead
        assert error.code() == not_found
    else:
        assert answer.error_response.error_code == not_found.value[0]
