"""A receiver of webhooks in a process of its own: ``python -m benchmarks.harness.receiver PORT [hang]``.

One thread and one epoll, a few lines a request, so that it is not what is measured. It answers every POST with 204 and every GET with the number of
different ``webhook-id`` that it has seen; with ``hang`` it takes connections and never says a word.
"""

import re
import selectors
import socket
import sys

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)
_ID = re.compile(rb"\r\nwebhook-id: *([^\r]+)\r\n", re.IGNORECASE)
_TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"


def main(port: int, *, hang: bool) -> None:
    """Serves until it is killed."""
    seen: set[bytes] = set()
    waiting: dict[socket.socket, bytes] = {}
    with socket.create_server(("127.0.0.1", port), backlog=1_024) as listening, selectors.DefaultSelector() as selector:
        selector.register(listening, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                if connection is listening:
                    accepted, _ = listening.accept()
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(accepted, selectors.EVENT_READ)
                    waiting[accepted] = b""
                    continue
                try:
                    received = connection.recv(65_536)
                    if received:
                        waiting[connection] = b"" if hang else _answer(connection, waiting[connection] + received, seen)
                        continue
                except OSError:
                    pass
                selector.unregister(connection)
                del waiting[connection]
                connection.close()


def _answer(connection: socket.socket, received: bytes, seen: set[bytes]) -> bytes:
    """Answers every whole request; what is left over."""
    while True:
        head, end, rest = received.partition(b"\r\n\r\n")
        head += b"\r\n"
        length = int(found[1]) if (found := _LENGTH.search(head)) else 0
        if not end or len(rest) < length:
            return received
        if identity := _ID.search(head):
            seen.add(identity[1])
        if head.startswith(b"GET"):
            count = str(len(seen)).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(count), count))
        else:
            connection.sendall(_TAKEN)
        received = rest[length:]


if __name__ == "__main__":
    main(int(sys.argv[1]), hang="hang" in sys.argv[2:])
