"""Repeats calls of a script in Redis. redis-benchmark cannot: it ends an argument at its first zero byte."""

import socket

import redis_world as world


def command(*words):
    """One command as bytes."""
    words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


def after(buffer, at):
    """The place behind the reply that begins at `at`, or nothing if it is not there yet."""
    end = buffer.find(b"\r\n", at)
    if end < 0:
        return None
    kind, text = buffer[at:at + 1], buffer[at + 1:end]
    place = end + 2
    if kind == b"-":
        raise ValueError(bytes(text))
    if kind == b"$":
        place += int(text) + 2 if int(text) >= 0 else 0
        return place if place <= len(buffer) else None
    for _ in range(int(text) if kind == b"*" else 0):
        place = after(buffer, place)
        if place is None:
            return None
    return place


class Client:
    """One connection."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=world.PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def wait(self, replies):
        buffer, place = bytearray(), 0
        while replies:
            buffer += self.socket.recv(1 << 16) or self.broken()
            behind = after(buffer, place)
            while behind is not None:
                place, replies = behind, replies - 1
                behind = after(buffer, place)

    def broken(self):
        raise ValueError("Redis has closed the connection")


def repeat(node, call, clients, pipeline, count):
    """CPU of Redis, and of it in the script, both in microseconds per call, over about `count` calls."""
    crowd = [Client(node.port) for _ in range(clients)]
    payload = call * pipeline

    def all_once():
        for client in crowd:
            client.socket.sendall(payload)
        for client in crowd:
            client.wait(pipeline)

    all_once()
    node.reset()
    before = node.cpu_seconds()
    for _ in range(max(1, count // (clients * pipeline))):
        all_once()
    used = node.cpu_seconds() - before
    calls, inside, failed = node.commands()["evalsha"]
    for client in crowd:
        client.socket.close()
    if failed:
        raise ValueError(f"{failed} of {calls} calls failed")
    return used / calls * 1e6, inside / calls
