"""Attempts to connect to a Postgres that is not there, or says nothing."""

from __future__ import annotations

import gc
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from catfish.rooms.ports import StoreUnavailable
from catfish.store.connection import Connector


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.skipif(sys.platform != "linux", reason="needs a list of the process's descriptors")
@pytest.mark.parametrize("listens", [True, False])
def test_an_attempt_that_failed_leaves_no_socket_behind(listens: bool, without_garbage_collection: None) -> None:
    with tempfile.TemporaryDirectory(prefix="catfish-") as directory, socket.socket(socket.AF_UNIX) as silent:
        if listens:
            silent.bind(str(Path(directory) / ".s.PGSQL.5432"))
            silent.listen()
        before = len(os.listdir("/proc/self/fd"))
        connector = Connector(f"host={directory}", timeout_s=1)
        with pytest.raises(StoreUnavailable, match="timeout expired" if listens else "No such file"):
            connector.connect()
        assert len(os.listdir("/proc/self/fd")) == before
