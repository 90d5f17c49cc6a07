"""A TCP gate in front of a real server: it counts, and it can refuse or hang as outages do."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlsplit

from demo.servers import free_port

TICK_S = 0.002


@dataclass(eq=False)
class _Pair:
    """A client's connection and the one made for it to the server, if there is one."""

    client: socket.socket
    server: socket.socket | None
    held: bytes = b""
    held_since_s: float = 0.0


class Gate:
    """Forwards to ``target``, until told otherwise. Context manager; one thread.

    ``hang()`` is a server that accepts and never answers, ``refuse()`` one that is not there, ``forward()`` the way
    back from either. Each returns when it is in force.

    Args:
        target: URL of the server; ``url`` is the same with the gate in its place.
        merge_s: hold back what a client sends until it has sent nothing for this long, so that one request is one
            burst however the client cuts it up.
    """

    def __init__(self, target: str, *, merge_s: float = 0.0) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._port = free_port()
        userinfo, at, _ = parts.netloc.rpartition("@")
        self.url = parts._replace(netloc=f"{userinfo}{at}127.0.0.1:{self._port}").geturl()
        self.connections = 0
        self.bursts = 0
        """Requests that waited for an answer: round trips."""
        self._merge_s = merge_s
        self._orders: list[tuple[Callable[[], None], threading.Event]] = []
        self._hanging = self._stopped = False
        self._selector = selectors.DefaultSelector()
        self._listener: socket.socket | None = None
        self._pairs: list[_Pair] = []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Gate:
        self._listen()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._order(self._stop)
        self._thread.join()
        self._selector.close()

    def forward(self) -> None:
        self._order(self._forward)

    def hang(self) -> None:
        self._order(self._hang)

    def refuse(self) -> None:
        self._order(self._refuse)

    def _order(self, step: Callable[[], None]) -> None:
        done = threading.Event()
        self._orders.append((step, done))
        assert done.wait(5)

    def _forward(self) -> None:
        self._cut()
        self._hanging = False
        if self._listener is None:
            self._listen()

    def _hang(self) -> None:
        if self._listener is None:
            self._listen()
        self._hanging = True  # what is connected stays connected, to a server that went silent

    def _refuse(self) -> None:
        self._cut()
        if self._listener is not None:
            self._selector.unregister(self._listener)
            self._listener.close()
            self._listener = None

    def _stop(self) -> None:
        self._refuse()
        self._stopped = True

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self._port), backlog=128)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def _run(self) -> None:
        while not self._stopped:
            for key, _ in self._selector.select(TICK_S):
                if key.fileobj.fileno() >= 0:  # type: ignore[union-attr]  # closed by the event before it
                    key.data()
            self._release()
            while self._orders:
                step, done = self._orders.pop(0)
                step()
                done.set()

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        self.connections += 1
        server = None if self._hanging else socket.create_connection(self._target)
        pair = _Pair(client, server)
        self._pairs.append(pair)
        self._selector.register(client, selectors.EVENT_READ, lambda: self._from_client(pair))
        if server is not None:
            self._selector.register(server, selectors.EVENT_READ, lambda: self._from_server(pair))

    def _from_client(self, pair: _Pair) -> None:
        sent = _received(pair.client)
        if not sent:
            self._close(pair)
            return
        pair.held += sent
        pair.held_since_s = time.monotonic()

    def _from_server(self, pair: _Pair) -> None:
        assert pair.server is not None
        answer = _received(pair.server)
        if not answer:
            self._close(pair)
            return
        with contextlib.suppress(OSError):
            pair.client.sendall(answer)

    def _release(self) -> None:
        now = time.monotonic()
        for pair in self._pairs:
            if pair.held and pair.server is not None and not self._hanging and now - pair.held_since_s >= self._merge_s:
                self.bursts += 1
                pair.server.sendall(pair.held)
                pair.held = b""

    def _close(self, pair: _Pair) -> None:
        for end in (pair.client, pair.server):
            if end is not None:
                self._selector.unregister(end)
                end.close()
        self._pairs.remove(pair)

    def _cut(self) -> None:
        for pair in list(self._pairs):
            self._close(pair)


def _received(end: socket.socket) -> bytes:
    with contextlib.suppress(OSError):
        return end.recv(1 << 16)
    return b""
