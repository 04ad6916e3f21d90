"""WebSocket frames as bytes (RFC 6455, section 5.2), for what no library would send."""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
FIN, RSV1, MASKED = 0x80, 0x40, 0x80


@dataclass(frozen=True)
class Frame:
    """One frame, as it is before it is masked."""

    opcode: int
    payload: bytes = b""
    fin: bool = True
    rsv1: bool = False
    """Set on the first frame of a compressed message (RFC 7692)."""

    def encode(self, masked: bool) -> bytes:
        """The bytes on the wire; a client masks, a server does not."""
        first = self.opcode | (FIN if self.fin else 0) | (RSV1 if self.rsv1 else 0)
        bit, size = (MASKED if masked else 0), len(self.payload)
        if size < 126:
            head = struct.pack("!BB", first, bit | size)
        elif size < 1 << 16:
            head = struct.pack("!BBH", first, bit | 126, size)
        else:
            head = struct.pack("!BBQ", first, bit | 127, size)
        if not masked:
            return head + self.payload
        key = os.urandom(4)
        return head + key + _masked(self.payload, key)

    @classmethod
    def read(cls, exactly: Callable[[int], bytes]) -> "Frame":
        """The next frame of a stream, masked or not."""
        first, second = exactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack("!H", exactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", exactly(8))
        key = exactly(4) if second & MASKED else b"\0\0\0\0"
        payload = _masked(exactly(size), key)
        return cls(first & 0x0F, payload, bool(first & FIN), bool(first & RSV1))

    @property
    def close_code(self) -> int:
        """The code of a close frame; 1005 where there is none."""
        assert self.opcode == CLOSE, self
        return int.from_bytes(self.payload[:2], "big") if self.payload else 1005


def close(code: int, reason: str = "") -> Frame:
    """A close frame."""
    return Frame(CLOSE, struct.pack("!H", code) + reason.encode())


def _masked(payload: bytes, key: bytes) -> bytes:
    stretched = (key * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")).to_bytes(len(payload), "big")
