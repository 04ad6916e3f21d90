"""grpcio on both sides of the gateway: calls of every kind, their metadata, their ends."""

import queue
import secrets
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from support.certificates import Authority
from support.rpc import SERVICE, STAFF, RpcGateway, Server
from support.tokens import mint, with_signature_changed
from support.waiting import wait_until

MIB = 1024 * 1024
PATIENCE = 20
ACCEPTED = "portcullis_connections_accepted_total"
OPENED = "portcullis_upstream_connections_opened_total"
CALLS = "portcullis_grpc_calls_total"


@pytest.fixture(params=["h2c", "h2"])
def server(request: pytest.FixtureRequest, authority: Authority) -> Iterator[Server]:
    """A server of this story alone, over TCP and over TLS in turn."""
    yield from _started(Server(authority if request.param == "h2" else None))


@pytest.fixture
def gateway(server: Server, authority: Authority, tmp_path: Path) -> Iterator[RpcGateway]:
    """A gateway before it."""
    yield from _started(_before(server, authority, tmp_path))


@pytest.fixture
def channel(gateway: RpcGateway) -> Iterator[Any]:
    """One connection of a client."""
    with gateway.channel() as opened:
        yield opened


@pytest.fixture
def alice(gateway: RpcGateway) -> tuple[tuple[str, str], ...]:
    """The metadata by which Alice, an ordinary user, is known."""
    return _bearer(mint(gateway.secret, user_id="42"))


def test_a_unary_call_carries_messages_metadata_and_the_users_id(
    channel: Any, alice: tuple[tuple[str, str], ...]
) -> None:
    unary = channel.unary_unary(f"/{SERVICE}/Unary")
    metadata = (*alice, ("x-custom", "mine"), ("x-raw-bin", b"\x01\x02"), ("x-user-id", "spoofed"))
    answer, call = unary.with_call(b"hello", metadata=metadata, timeout=PATIENCE)
    assert answer == b"hello"
    assert ("x-initial", "kept") in call.initial_metadata()
    trailing = call.trailing_metadata()
    for pair in (("x-trailing", "kept"), ("x-raw-bin", b"\x00\xff"), ("x-custom", "mine"), ("x-user-id", "42")):
        assert pair in trailing, trailing
    assert call.code() == grpc.StatusCode.OK


def test_streams_of_either_side_and_of_both(channel: Any, alice: tuple[tuple[str, str], ...]) -> None:
    counted = channel.unary_stream(f"/{SERVICE}/Count")(b"1000", metadata=alice, timeout=PATIENCE)
    assert [int(message) for message in counted] == list(range(1000))
    pieces = (b"x" * number for number in range(500))
    total = channel.stream_unary(f"/{SERVICE}/Sum")(pieces, metadata=alice, timeout=PATIENCE)
    assert int(total) == sum(range(500))

    said: queue.Queue[bytes | None] = queue.Queue()
    chat = channel.stream_stream(f"/{SERVICE}/Chat")(iter(said.get, None), metadata=alice, timeout=PATIENCE)
    # Each is said only when the one before it has come back.
    for message in (b"one", b"", b"three" * 50_000, b"four"):
        said.put(message)
        assert next(chat) == message
    said.put(None)
    assert list(chat) == []
    assert chat.code() == grpc.StatusCode.OK


def test_the_applications_own_refusal_passes_word_by_word(channel: Any, alice: tuple[tuple[str, str], ...]) -> None:
    error = _refused(channel, f"/{SERVICE}/Fail", alice)
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "100% \u00fcber")


def test_who_may_not_pass_is_told_in_the_words_of_the_protocol(gateway: RpcGateway, channel: Any) -> None:
    good = mint(gateway.secret)
    expired = mint(gateway.secret, exp=int(time.time()) - 10)
    for path, metadata, code in (
        (f"/{SERVICE}/Unary", (), grpc.StatusCode.UNAUTHENTICATED),
        (f"/{SERVICE}/Unary", _bearer("not.a.token"), grpc.StatusCode.UNAUTHENTICATED),
        (f"/{SERVICE}/Unary", _bearer(with_signature_changed(good)), grpc.StatusCode.UNAUTHENTICATED),
        (f"/{SERVICE}/Unary", _bearer(expired), grpc.StatusCode.UNAUTHENTICATED),
        (f"/{STAFF}/Unary", _bearer(good), grpc.StatusCode.PERMISSION_DENIED),
        ("/story.Nothing/Unary", _bearer(good), grpc.StatusCode.UNIMPLEMENTED),
    ):
        error = _refused(channel, path, metadata)
        assert error.code() == code, (path, metadata, error)
        assert error.details()
        if code == grpc.StatusCode.UNAUTHENTICATED:
            assert "www-authenticate" in dict(error.trailing_metadata())
    staff = _bearer(mint(gateway.secret, is_staff=True))
    assert channel.unary_unary(f"/{STAFF}/Unary")(b"x", metadata=staff, timeout=PATIENCE) == b"x"


def test_a_deadline_ends_the_call_on_both_sides(
    gateway: RpcGateway, server: Server, channel: Any, alice: tuple[tuple[str, str], ...]
) -> None:
    begun = time.monotonic()
    call = channel.unary_stream(f"/{SERVICE}/Wait")(b"", metadata=alice, timeout=0.7)
    assert next(call) == b"waiting"
    with pytest.raises(grpc.RpcError) as raised:
        next(call)
    assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    wait_until(lambda: server.ended, "the server's side to end")
    assert server.ended[0] - begun < 0.7 + 1
    # Whoever's clock was first: the gateway told the client, or the client told the gateway.
    ends = ("DEADLINE_EXCEEDED", "CANCELLED")
    wait_until(lambda: sum(_calls(gateway, end) for end in ends) == 1, "the call to be counted")


def test_a_cancelled_call_ends_at_the_server_within_a_second(
    gateway: RpcGateway, server: Server, channel: Any, alice: tuple[tuple[str, str], ...]
) -> None:
    call = channel.unary_stream(f"/{SERVICE}/Wait")(b"", metadata=alice, timeout=PATIENCE)
    assert next(call) == b"waiting"
    assert server.waiting.acquire(timeout=PATIENCE)  # a generator that is not waiting yet is closed, and never tells
    cancelled = time.monotonic()
    call.cancel()
    wait_until(lambda: server.ended, "the server's side to end")
    assert server.ended[0] - cancelled < 1
    wait_until(lambda: _calls(gateway, "CANCELLED") == 1, "the call to be counted")


def test_a_server_that_is_down_is_unavailable_until_it_is_back(
    server: Server, channel: Any, alice: tuple[tuple[str, str], ...]
) -> None:
    unary = channel.unary_unary(f"/{SERVICE}/Unary")
    assert unary(b"x", metadata=alice, timeout=PATIENCE) == b"x"
    server.stop()
    assert _refused(channel, f"/{SERVICE}/Unary", alice).code() == grpc.StatusCode.UNAVAILABLE
    server.start()

    def answered() -> bool:
        try:
            return bool(unary(b"x", metadata=alice, timeout=PATIENCE) == b"x")
        except grpc.RpcError as error:
            if error.code() != grpc.StatusCode.UNAVAILABLE:
                raise
            return False

    wait_until(answered, "calls to pass again")


def test_a_server_that_breaks_off_a_stream_is_unavailable(
    server: Server, channel: Any, alice: tuple[tuple[str, str], ...]
) -> None:
    call = channel.unary_stream(f"/{SERVICE}/Wait")(b"", metadata=alice, timeout=PATIENCE)
    assert next(call) == b"waiting"
    assert server.waiting.acquire(timeout=PATIENCE)
    server.stop()
    with pytest.raises(grpc.RpcError) as raised:
        next(call)
    assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED), raised.value


def test_large_messages_pass_both_ways(channel: Any, alice: tuple[tuple[str, str], ...]) -> None:
    message = secrets.token_bytes(12 * MIB)
    assert channel.unary_unary(f"/{SERVICE}/Unary")(message, metadata=alice, timeout=60) == message


def test_many_calls_at_once_share_one_connection(
    gateway: RpcGateway, channel: Any, alice: tuple[tuple[str, str], ...]
) -> None:
    unary = channel.unary_unary(f"/{SERVICE}/Unary")
    chat = channel.stream_stream(f"/{SERVICE}/Chat")

    def one(number: int) -> bool:
        text = str(number).encode()
        messages = [text, text * 100, text]
        assert unary(text, metadata=alice, timeout=PATIENCE) == text
        return list(chat(iter(messages), metadata=alice, timeout=PATIENCE)) == messages

    with ThreadPoolExecutor(50) as pool:
        assert all(pool.map(one, range(200)))
    metrics = gateway.metrics()
    assert (metrics.total(ACCEPTED), metrics.total(OPENED)) == (1, 1)


def test_a_server_that_takes_few_streams_gets_more_connections(authority: Authority, tmp_path: Path) -> None:
    server = Server(streams=4)
    for gateway in _started(_before(server, authority, tmp_path)):
        server.start()
        try:
            _hold_twenty(gateway, server)
        finally:
            server.stop()


def _hold_twenty(gateway: RpcGateway, server: Server) -> None:
    alice = _bearer(mint(gateway.secret))
    with gateway.channel() as channel:
        wait = channel.unary_stream(f"/{SERVICE}/Wait")
        calls = [wait(b"", metadata=alice, timeout=PATIENCE) for _ in range(20)]
        for call in calls:
            assert next(call) == b"waiting"
        assert gateway.metrics().total(OPENED) >= 5
        for call in calls:
            call.cancel()
        wait_until(lambda: len(server.ended) == 20, "all of them to end")


def _started(thing: Any) -> Iterator[Any]:
    try:
        thing.start()
        yield thing
    finally:
        thing.stop()


def _before(server: Server, authority: Authority, directory: Path) -> RpcGateway:
    return RpcGateway(directory=directory, authority=authority, server=server, secret=secrets.token_hex(32))


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


def _refused(channel: Any, path: str, metadata: tuple[tuple[str, str], ...]) -> Any:
    with pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary(path)(b"hello", metadata=metadata, timeout=PATIENCE)
    return raised.value


def _calls(gateway: RpcGateway, code: str) -> float:
    return gateway.metrics().total(CALLS, code=code)
