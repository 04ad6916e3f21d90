"""A gRPC server of grpcio behind the gateway, and channels through it. Messages are bytes: no code is generated."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import grpc

from support.certificates import Authority
from support.gateway import GatewayProcess
from support.waiting import free_ports

SERVICE = "story.Echo"
STAFF = "story.Staff"
BODY_BYTES = 64 * 1024 * 1024
UNBOUNDED = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


class Server:
    """A server on a port of its own, which a story may stop and start again at the same place."""

    def __init__(self, authority: Authority | None = None, streams: int | None = None) -> None:
        self.port = free_ports(1)[0]
        self.ended: list[float] = []
        """When calls of `Wait` ended, by a monotonic clock."""
        self.waiting = threading.Semaphore(0)
        """Released by each call of `Wait` that has begun."""
        self._authority = authority
        self._options = [*UNBOUNDED, ("grpc.so_reuseport", 0)]
        if streams is not None:
            self._options.append(("grpc.max_concurrent_streams", streams))
        self._server: Any = None

    @property
    def endpoint(self) -> str:
        """The address in the gateway's configuration language."""
        return f"{'h2' if self._authority else 'h2c'}://localhost:{self.port}"

    @property
    def upstream_keys(self) -> str:
        """What else the upstream's table has to say."""
        return f'tls = {{ ca_file = "{self._authority.path}" }}' if self._authority else ""

    def start(self) -> None:
        """Listens."""
        self._server = grpc.server(ThreadPoolExecutor(64), options=self._options)
        methods = {
            "Unary": grpc.unary_unary_rpc_method_handler(_unary),
            "Count": grpc.unary_stream_rpc_method_handler(_count),
            "Sum": grpc.stream_unary_rpc_method_handler(_sum),
            "Chat": grpc.stream_stream_rpc_method_handler(_chat),
            "Fail": grpc.unary_unary_rpc_method_handler(_fail),
            "Wait": grpc.unary_stream_rpc_method_handler(self._wait),
        }
        for service in (SERVICE, STAFF):
            self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        address = f"127.0.0.1:{self.port}"
        if self._authority is None:
            assert self._server.add_insecure_port(address) == self.port
        else:
            certificate = self._authority.issue()
            credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
            assert self._server.add_secure_port(address, credentials) == self.port
        self._server.start()

    def stop(self) -> None:
        """Breaks what runs and listens no more."""
        self._server.stop(grace=None).wait()

    def _wait(self, _asked: bytes, context: Any) -> Iterator[bytes]:
        """Says one thing and then nothing, until the call ends from outside."""
        over = threading.Event()
        assert context.add_callback(over.set)
        yield b"waiting"
        self.waiting.release()
        assert over.wait(30), "nobody ended the call"
        self.ended.append(time.monotonic())


def _unary(asked: bytes, context: Any) -> bytes:
    """The same bytes, with what was said of the caller in the metadata."""
    said = {name: value for name, value in context.invocation_metadata() if name.startswith("x-")}
    context.send_initial_metadata((("x-initial", "kept"),))
    context.set_trailing_metadata((("x-trailing", "kept"), ("x-raw-bin", b"\x00\xff"), *said.items()))
    return asked


def _count(asked: bytes, _context: Any) -> Iterator[bytes]:
    for number in range(int(asked)):
        yield str(number).encode()


def _sum(asked: Iterator[bytes], _context: Any) -> bytes:
    return str(sum(len(message) for message in asked)).encode()


def _chat(asked: Iterator[bytes], _context: Any) -> Iterator[bytes]:
    yield from asked


def _fail(_asked: bytes, context: Any) -> bytes:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "100% \u00fcber")
    raise AssertionError("abort raises")


@dataclass(kw_only=True)
class RpcGateway(GatewayProcess):
    """A gateway before one server: `SERVICE` is for tokens, `STAFF` for tokens of staff, and nothing else is there."""

    server: Server
    secret: str
    _secret_name: str = field(default="rpc.secret", init=False)

    def _tables(self) -> str:
        (self.directory / self._secret_name).write_text(self.secret)
        return f"""{super()._tables()}
    [issuer.corp]
    preset = "simplejwt"
    secret = {{ file = "{self.directory / self._secret_name}" }}

    [upstream.rpc]
    endpoints = ["{self.server.endpoint}"]
    connect_timeout_secs = 2
    {self.server.upstream_keys}

    [[route]]
    name = "echo"
    path = "/{SERVICE}/"
    auth = {{ issuer = "corp" }}
    forward_claims = {{ "X-User-Id" = "user_id" }}
    body_bytes = {BODY_BYTES}
    upstream = "rpc"

    [[route]]
    name = "staff"
    path = "/{STAFF}/"
    auth = {{ issuer = "corp", require = {{ is_staff = true }} }}
    upstream = "rpc"
"""

    def channel(self) -> Any:
        """One connection of a client that trusts the tests' authority."""
        credentials = grpc.ssl_channel_credentials(root_certificates=self.authority.path.read_bytes())
        options = [*UNBOUNDED, ("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        return grpc.secure_channel(self.host, credentials, options=options)
