"""A wire between a store and its Postgres that can be cut at a chosen byte, or fall silent."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

from psycopg.conninfo import conninfo_to_dict, make_conninfo

COMMITTED = b"COMMIT\0"
"""What the server says when it has committed."""


class Proxy:
    """Listens on a Unix socket in `directory`; every connection gets a thread.

    * `cut_before_server(text)`: the next connection that sends `text` is cut, and the server never sees it;
    * `cut_after_server(text)`: the next answer with `text` is lost, with its connection;
    * `silent`: nothing is forwarded, in either direction;
    * `refuse`: connections are closed as soon as they come.
    """

    def __init__(self, directory: Path, url: str) -> None:
        parts = conninfo_to_dict(url)
        self._host, self._port = str(parts["host"]), int(parts.get("port") or 5432)
        self.url = make_conninfo(url, host=str(directory), port=5432)
        self.refuse = False
        self.silent = False
        self.cuts = 0
        self._before: bytes | None = None
        self._after: bytes | None = None
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(directory / ".s.PGSQL.5432"))
        self._listener.listen()
        self._listener.settimeout(0.05)
        self._closed = False
        self._threads = [threading.Thread(target=self._accept, name="proxy")]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closed = True
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def cut_before_server(self, text: bytes) -> None:
        self._before = text

    def cut_after_server(self, text: bytes) -> None:
        self._after = text

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            if self.refuse:
                client.close()
                continue
            thread = threading.Thread(target=self._serve, args=(client,), name="proxied connection")
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        if self._host.startswith("/"):
            server = socket.socket(socket.AF_UNIX)
            server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        else:
            server = socket.create_connection((self._host, self._port))
        with client, server, contextlib.suppress(OSError):
            selector = selectors.DefaultSelector()
            with selector:
                selector.register(client, selectors.EVENT_READ, server)
                selector.register(server, selectors.EVENT_READ, client)
                while not self._closed and self._pass(selector, client):
                    pass

    def _pass(self, selector: selectors.BaseSelector, client: socket.socket) -> bool:
        if self.silent:
            threading.Event().wait(0.01)
            return True
        for key, _ in selector.select(0.05):
            source, target = key.fileobj, key.data
            assert isinstance(source, socket.socket)
            data = source.recv(65_536)
            if not data:
                return False
            if source is client and self._before is not None and self._before in data:
                self._before = None
                self.cuts += 1
                return False
            if source is not client and self._after is not None and self._after in data:
                self._after = None
                self.cuts += 1
                return False
            target.sendall(data)
        return True
