"""What a WebSocket is made of passes as it is, in both directions: fragments, control frames, and every way to close.

The `websockets` library stands at both ends. Each case is told twice, once from the client to the server and once back;
what HTTP/2 frames anew is told again with a client that speaks it.
"""

import itertools
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.connection import Connection

from support.certificates import Authority
from support.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, Frame, close
from support.gateway import Gateway
from support.h2_socket import Carrier, H2Socket
from support.site import Site
from support.socket_origin import SocketOrigin
from support.sockets import PATIENCE_SECS, end_of, extensions
from support.waiting import free_ports

Fragments = tuple[str, ...] | tuple[bytes, ...]
Ends = Callable[..., Any]

KIB, MIB = 1024, 1024 * 1024
MESSAGES: dict[str, Fragments] = {
    "no byte": ("",),
    "one letter": ("a",),
    "every byte": (bytes(range(256)),),
    "beyond the first plane": ("\U0001f600" * 100,),
    "the longest of the short": (b"x" * 125,),
    "the shortest of the middle": (b"x" * 126,),
    "the longest of the middle": (b"x" * 65_535,),
    "the shortest of the long": (b"x" * 65_536,),
    "one mebibyte": (b"x" * MIB,),
    "sixteen mebibytes": (b"x" * 16 * MIB,),
    "two fragments": ("Hel", "lo"),
    "a first fragment without a byte": ("", "Hello"),
    "a last fragment without a byte": (b"Hello", b""),
    "no fragment with a byte": ("", "", ""),
    "a fragment for every letter": tuple("every letter of its own"),
    "many fragments of a kibibyte": (b"y" * KIB,) * 512,
    "fragments of every size": tuple(b"z" * size for size in (1, 125, 126, 65_535, 65_536, 200_000)),
}
CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999)
REASONS = {"none": "", "some": "as you wished", "the longest": "r" * 123, "no ASCII": "größer als \U0001f600"}


class Between(NamedTuple):
    """A gateway, and the port where it speaks plain HTTP."""

    gateway: Gateway
    plain_port: int


@pytest.fixture(scope="module")
def origin() -> Iterator[SocketOrigin]:
    """The server."""
    started = SocketOrigin()
    yield started
    started.stop()


@pytest.fixture(scope="module")
def between(
    origin: SocketOrigin, site: Site, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Between]:
    """The gateway before it."""
    gateway = Gateway(
        directory=tmp_path_factory.mktemp("between"),
        authority=authority,
        kind="http",
        endpoint=origin.endpoint,
        static_root=site.static_root,
        secret=site.secret,
    )
    port = free_ports(1)[0]
    gateway.configure(f"""
    [listen.http]
    address = "127.0.0.1:{port}"
    """)
    try:
        gateway.start()
        yield Between(gateway, port)
    finally:
        gateway.stop()


@pytest.fixture(params=["to the server", "to the client"])
def ends(
    request: pytest.FixtureRequest, origin: SocketOrigin, between: Between
) -> Iterator[tuple[Connection, Connection]]:
    """Who speaks and who listens, without compression."""
    with origin.pair(between.plain_port, compression=None) as (client, server):
        yield (client, server) if request.param == "to the server" else (server, client)


# Messages.


@pytest.mark.parametrize("fragments", MESSAGES.values(), ids=MESSAGES)
def test_a_message_arrives_in_the_fragments_in_which_it_was_sent(
    ends: tuple[Connection, Connection], fragments: Fragments
) -> None:
    speaker, listener = ends
    sending = threading.Thread(target=speaker.send, args=(fragments[0] if len(fragments) == 1 else fragments,))
    sending.start()
    received = tuple(listener.recv_streaming())
    sending.join(PATIENCE_SECS)
    # The library ends a message that was given in fragments with an empty one.
    assert received == (fragments if len(fragments) == 1 else (*fragments, fragments[0][:0]))


def test_messages_arrive_in_their_order(ends: tuple[Connection, Connection]) -> None:
    speaker, listener = ends
    for number in range(500):
        speaker.send(str(number))
    assert [listener.recv(timeout=PATIENCE_SECS) for _ in range(500)] == [str(number) for number in range(500)]


def test_both_ends_speak_at_once(origin: SocketOrigin, between: Between) -> None:
    """Neither waits for the other to finish, though more is under way than any buffer holds."""
    message = b"w" * (256 * KIB)
    with origin.pair(between.plain_port, compression=None) as both:
        speaking = [threading.Thread(target=lambda end=end: [end.send(message) for _ in range(32)]) for end in both]
        for thread in speaking:
            thread.start()
        for _, end in itertools.product(range(32), both):
            assert end.recv(timeout=PATIENCE_SECS) == message
        for thread in speaking:
            thread.join(PATIENCE_SECS)


# Control frames.


@pytest.mark.parametrize("payload", [b"", b"p", b"\x00\xff" * 62], ids=["none", "one byte", "the longest"])
def test_a_ping_is_answered_with_its_payload(ends: tuple[Connection, Connection], payload: bytes) -> None:
    speaker, _ = ends
    assert speaker.ping(payload).wait(PATIENCE_SECS)


def test_a_ping_between_fragments_is_answered_before_the_message_ends(ends: tuple[Connection, Connection]) -> None:
    speaker, listener = ends

    def fragments() -> Iterator[str]:
        yield "before, "
        assert speaker.ping(b"between").wait(PATIENCE_SECS)
        yield "after"

    sending = threading.Thread(target=speaker.send, args=(fragments(),))
    sending.start()
    assert listener.recv(timeout=PATIENCE_SECS) == "before, after"
    sending.join(PATIENCE_SECS)


def test_a_pong_that_nobody_asked_for_passes(ends: tuple[Connection, Connection]) -> None:
    speaker, listener = ends
    speaker.pong(b"a heartbeat")
    speaker.send("after it")
    assert listener.recv(timeout=PATIENCE_SECS) == "after it"


# The end.


@pytest.mark.parametrize("code", CODES)
def test_a_close_code_passes(ends: tuple[Connection, Connection], code: int) -> None:
    closer, other = ends
    closer.close(code, "as you wished")
    assert end_of(other) == (code, "as you wished")
    assert (closer.close_code, closer.close_reason) == (code, "as you wished")


@pytest.mark.parametrize("reason", REASONS.values(), ids=REASONS)
def test_a_reason_passes(ends: tuple[Connection, Connection], reason: str) -> None:
    closer, other = ends
    closer.close(4000, reason)
    assert end_of(other) == (4000, reason)


def test_what_was_sent_before_the_close_arrives_before_it(ends: tuple[Connection, Connection]) -> None:
    closer, other = ends
    for number in range(100):
        closer.send(str(number))
    threading.Thread(target=closer.close, args=(1000,)).start()
    assert [other.recv(timeout=PATIENCE_SECS) for _ in range(100)] == [str(number) for number in range(100)]
    assert end_of(other)[0] == 1000


def test_an_end_that_is_torn_down_is_an_end_for_the_other(ends: tuple[Connection, Connection]) -> None:
    torn, other = ends
    torn.socket.shutdown(socket.SHUT_RDWR)
    with pytest.raises(ConnectionClosed):
        other.recv(timeout=PATIENCE_SECS)


# Over HTTP/2.


@pytest.fixture
def h2_ends(origin: SocketOrigin, between: Between) -> Iterator[tuple[H2Socket, Connection]]:
    """A client on a stream of HTTP/2, and the server."""
    with Carrier(between.gateway) as carrier:
        client = carrier.open("/public/ws/")
        assert client.status == 200
        yield client, origin.accepted()


@pytest.mark.parametrize("fragments", MESSAGES.values(), ids=MESSAGES)
def test_a_message_passes_both_ways_over_http_2_in_its_fragments(
    h2_ends: tuple[H2Socket, Connection], fragments: Fragments
) -> None:
    client, server = h2_ends
    answering = threading.Thread(target=lambda: server.send(tuple(server.recv_streaming())))
    answering.start()
    raw = [part.encode() if isinstance(part, str) else part for part in fragments]
    opcodes = [TEXT if isinstance(fragments[0], str) else BINARY, *[CONTINUATION] * (len(raw) - 1)]
    frames = [Frame(opcode, part, fin=False) for opcode, part in zip(opcodes, raw, strict=True)]
    client.send(*frames, Frame(CONTINUATION))
    # The library ends a message that it is given in fragments in the same way, after the last one that it was sent.
    received = [client.frame() for _ in range(len(frames) + 2)]
    assert received == [*frames, Frame(CONTINUATION, fin=False), Frame(CONTINUATION)]
    answering.join(PATIENCE_SECS)


@pytest.mark.parametrize("code", CODES)
def test_a_close_code_passes_both_ways_over_http_2(
    origin: SocketOrigin, h2_ends: tuple[H2Socket, Connection], code: int
) -> None:
    client, server = h2_ends
    client.send(close(code, "as you wished"))
    assert end_of(server) == (code, "as you wished")
    assert client.end_of() == code
    again = client.carrier.open("/public/ws/")
    closing = threading.Thread(target=origin.accepted().close, args=(code,))
    closing.start()
    assert again.end_of() == code
    again.send(close(code))
    closing.join(PATIENCE_SECS)
    assert again.rest() == b""


# What breaks the protocol.


@dataclass(frozen=True)
class Broken:
    """Frames that no library sends, and the code with which one answers them."""

    frames: tuple[Frame, ...]
    code: int


BROKEN = {
    "no UTF-8": Broken((Frame(TEXT, b"\xff\xfe"),), 1007),
    "no UTF-8 at the end of a fragment": Broken((Frame(TEXT, b"\xe2\x82", fin=False), Frame(CONTINUATION, b"a")), 1007),
    "nothing to continue": Broken((Frame(CONTINUATION, b"a"),), 1002),
    "a message within a message": Broken((Frame(TEXT, b"a", fin=False), Frame(TEXT, b"b")), 1002),
    "a ping in fragments": Broken((Frame(PING, b"a", fin=False),), 1002),
    "a ping that is too long": Broken((Frame(PING, b"a" * 126),), 1002),
    "an opcode that means nothing": Broken((Frame(0x3, b"a"),), 1002),
    "another one": Broken((Frame(0xB, b"a"),), 1002),
    "compressed without an agreement": Broken((Frame(TEXT, b"a", rsv1=True),), 1002),
    "a code that is never sent": Broken((close(1005),), 1002),
    "a code that is no code": Broken((close(999),), 1002),
    "half a code": Broken((Frame(CLOSE, b"\x03"),), 1002),
    "a reason that is no UTF-8": Broken((Frame(CLOSE, b"\x03\xe8\xff"),), 1007),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_whoever_breaks_the_protocol_is_sent_away(ends: tuple[Connection, Connection], broken: Broken) -> None:
    """Whether by the gateway or by the other end: with a code that says so, and never by silence."""
    speaker, listener = ends
    # The library looks at text when it is read.
    threading.Thread(target=lambda: end_of(listener)).start()
    masked = speaker.protocol.side.name == "CLIENT"
    speaker.socket.sendall(b"".join(frame.encode(masked) for frame in broken.frames))
    assert end_of(speaker)[0] in {broken.code, 1002, 1006}


@pytest.mark.parametrize("code", [None, 1000], ids=["without a code", "with one"])
def test_a_close_frame_with_and_without_a_code_passes(ends: tuple[Connection, Connection], code: int | None) -> None:
    closer, other = ends
    frame = Frame(CLOSE) if code is None else close(code)
    closer.socket.sendall(frame.encode(masked=closer.protocol.side.name == "CLIENT"))
    assert end_of(other)[0] == (code or 1005)


# Compression is between the ends.


@pytest.mark.parametrize("text", ["once and again " * 10_000, "short"])
def test_a_compressed_message_passes(origin: SocketOrigin, between: Between, text: str) -> None:
    with origin.pair(between.plain_port) as (client, server):
        agreed = extensions(client)
        assert agreed == extensions(server)
        assert agreed is not None
        assert agreed.startswith("permessage-deflate")
        for speaker, listener in ((client, server), (server, client)):
            speaker.send(text)
            assert listener.recv(timeout=PATIENCE_SECS) == text
