"""The application of the comparison: agrees to a WebSocket and answers each message with its echo."""

import select
import socket
import sys

from wire import ECHO, HEAD_END, MESSAGE, answer


def main() -> None:
    """Serves until it is ended."""
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=4096)
    waiting: dict[int, bytearray] = {}
    open_sockets: dict[int, socket.socket] = {}
    switched: set[int] = set()
    poll = select.epoll()
    poll.register(listener.fileno(), select.EPOLLIN)
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                open_sockets[accepted.fileno()] = accepted
                waiting[accepted.fileno()] = bytearray()
                poll.register(accepted.fileno(), select.EPOLLIN)
                continue
            connection = open_sockets[number]
            try:
                data = connection.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                poll.unregister(number)
                open_sockets.pop(number).close()
                switched.discard(number)
                del waiting[number]
            elif number in switched and data == MESSAGE and not waiting[number]:
                connection.sendall(ECHO)
            else:
                _serve(connection, waiting[number], data, switched)


def _serve(connection: socket.socket, held: bytearray, data: bytes, switched: set[int]) -> None:
    held += data
    if connection.fileno() not in switched:
        if HEAD_END not in held:
            return
        head, rest = bytes(held).split(HEAD_END, 1)
        held[:] = rest
        switched.add(connection.fileno())
        connection.sendall(answer(head))
    while len(held) >= len(MESSAGE):
        if held[0] != MESSAGE[0]:
            return  # a goodbye: the other side will close
        del held[: len(MESSAGE)]
        connection.sendall(ECHO)


if __name__ == "__main__":
    main()
