"""WebSockets over HTTP/2 by hand (RFC 8441), with `h2` for the frames of HTTP/2 and our own for those of WebSocket."""

import socket
import ssl
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import h2.config
import h2.connection
import h2.events
from hyperframe.frame import Frame as CarrierFrame
from hyperframe.frame import GoAwayFrame

from support.frames import CLOSE, Frame
from support.gateway import CLIENT_ADDRESS, GatewayProcess

PATIENCE_SECS = 20
READ_BYTES = 64 * 1024
WINDOW_BYTES = 1 << 20


class _Patient(h2.connection.H2Connection):
    """Lets streams go on after a GOAWAY (RFC 9113, section 6.8), which `h2` takes for the end of the connection."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[CarrierFrame], list[h2.events.Event]]:
        event = h2.events.ConnectionTerminated()
        event.error_code, event.last_stream_id = frame.error_code, frame.last_stream_id
        return [], [event]


class H2Socket:
    """One WebSocket on an HTTP/2 connection, which may carry others, and ordinary requests."""

    def __init__(self, carrier: "Carrier", number: int) -> None:
        self.carrier = carrier
        self.number = number
        self.headers: dict[str, str] = {}
        self.ended = False
        """Whether the gateway has closed its side of the stream."""
        self.reset: int | None = None
        """The error code of a reset."""
        self.received = bytearray()

    @property
    def status(self) -> int:
        """The answer, as soon as it is there."""
        self.carrier.pump(lambda: bool(self.headers))
        return int(self.headers[":status"])

    def send(self, *frames: Frame) -> None:
        """Sends frames as a client does, as many DATA frames as the windows allow."""
        self.carrier.send(self.number, b"".join(frame.encode(masked=True) for frame in frames))

    def end(self) -> None:
        """Closes the client's side of the stream."""
        self.carrier.end(self.number)

    def cancel(self) -> None:
        """Resets the stream, as a browser does when a page is left."""
        self.carrier.cancel(self.number)

    def frame(self) -> Frame:
        """The next frame."""
        return Frame.read(self._exactly)

    def end_of(self) -> int:
        """The code of the close frame, whatever comes before; 1006 if the stream ends without one."""
        try:
            while True:
                frame = self.frame()
                if frame.opcode == CLOSE:
                    return frame.close_code
        except EOFError:
            return 1006

    def rest(self) -> bytes:
        """Everything up to the end of the stream."""
        self.carrier.pump(lambda: self.ended or self.reset is not None)
        rest = bytes(self.received)
        self.received.clear()
        return rest

    def _exactly(self, size: int) -> bytes:
        self.carrier.pump(lambda: len(self.received) >= size or self.ended or self.reset is not None)
        if len(self.received) < size:
            raise EOFError
        taken = bytes(self.received[:size])
        del self.received[:size]
        return taken


class Carrier:
    """One HTTP/2 connection to the gateway, over TLS, from `CLIENT_ADDRESS`."""

    def __init__(self, gateway: GatewayProcess) -> None:
        self._host = gateway.host
        self._streams: dict[int, H2Socket] = {}
        self._settings_came = False
        self.goaway = False
        """Whether the gateway has said that it takes no more streams."""
        context = gateway.authority.trust()
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection(("127.0.0.1", gateway.port), PATIENCE_SECS, (CLIENT_ADDRESS, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._tls: ssl.SSLSocket = context.wrap_socket(plain, server_hostname="localhost")
        self._h2 = _Patient(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(WINDOW_BYTES)
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tls.close()

    @property
    def offers_connect(self) -> bool:
        """Whether the gateway's settings allow extended CONNECT (RFC 8441, section 3)."""
        self.pump(lambda: self._settings_came)
        return bool(self._h2.remote_settings.enable_connect_protocol)

    def open(self, path: str, headers: Mapping[str, str] | None = None, protocol: str = "websocket") -> H2Socket:
        """Asks for a tunnel; its `status` says whether it is one."""
        assert self.offers_connect, "the gateway offers no extended CONNECT"
        fields = {
            ":method": "CONNECT",
            ":protocol": protocol,
            ":scheme": "https",
            ":path": path,
            ":authority": self._host,
            "sec-websocket-version": "13",
            **(headers or {}),
        }
        return self._ask(fields, ended=False)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> H2Socket:
        """An ordinary request on the same connection."""
        fields = {":method": "GET", ":scheme": "https", ":path": path, ":authority": self._host, **(headers or {})}
        return self._ask(fields, ended=True)

    def _ask(self, fields: Mapping[str, str], ended: bool) -> H2Socket:
        number = self._h2.get_next_available_stream_id()
        self._streams[number] = H2Socket(self, number)
        self._h2.send_headers(number, list(fields.items()), end_stream=ended)
        self._flush()
        return self._streams[number]

    def send(self, number: int, content: bytes) -> None:
        """Sends bytes on a stream, as the gateway's windows allow."""
        left = memoryview(content)
        while left:
            self.pump(lambda: self._room(number) > 0)
            room = self._room(number)
            self._h2.send_data(number, bytes(left[:room]))
            left = left[room:]
            self._flush()

    def end(self, number: int) -> None:
        """Closes the client's side of a stream."""
        self._h2.end_stream(number)
        self._flush()

    def cancel(self, number: int) -> None:
        """Resets a stream with CANCEL."""
        self._h2.reset_stream(number, 8)
        self._flush()

    def pump(self, done: Callable[[], bool]) -> None:
        """Reads until `done`; fails when the connection ends before, or nothing comes."""
        while not done():
            content = self._tls.recv(READ_BYTES)
            if not content:
                raise EOFError("the gateway closed the connection")
            for event in self._h2.receive_data(content):
                self._take(event)
            self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.goaway = True
        self._settings_came |= isinstance(event, h2.events.RemoteSettingsChanged)
        stream = self._streams.get(getattr(event, "stream_id", None) or 0)
        if stream is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = {str(name): str(value) for name, value in event.headers}
        elif isinstance(event, h2.events.DataReceived):
            stream.received += event.data
            self._h2.acknowledge_received_data(event.flow_controlled_length, stream.number)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)

    def _room(self, number: int) -> int:
        return min(self._h2.local_flow_control_window(number), self._h2.max_outbound_frame_size)

    def _flush(self) -> None:
        waiting = self._h2.data_to_send()
        if waiting:
            self._tls.sendall(waiting)
