"""The small parts: tags, what a worker is told, lines, the board, the directory."""

from __future__ import annotations

import os
import re
import stat
import tempfile
import time
from pathlib import Path

import attrs
import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import memory_stream_one_way_pair

from catfish.config import Settings
from catfish.errors import StartError
from catfish.workers.board import PATIENCE_S, Board
from catfish.workers.control import FROM_WORKER, LINE_BYTES_MAX, Alive, FromWorker, Lines, Ready, build_line
from catfish.workers.directory import PREFIX, SETTLED_S, open_directory
from catfish.workers.orders import VARIABLE, Orders
from catfish.workers.tags import TAG_CHARS, draw_sid, draw_tag, tag_of

# Tags


def test_an_id_says_whose_it_is() -> None:
    tags = {draw_tag() for _ in range(100)}
    assert len(tags) > 90
    assert all(tag_of(draw_sid(tag)) == tag for tag in tags)
    assert {len(draw_sid(tag)) for tag in tags} == {TAG_CHARS + 20}


@given(st.text(max_size=40) | st.from_regex(r"[./\\A-Z\0]{0,40}"))
def test_whatever_a_client_says_the_tag_is_a_harmless_name(sid: str) -> None:
    tag = tag_of(sid)
    assert tag is None or (re.fullmatch(r"[A-Za-z0-9_-]{4}", tag) and sid.startswith(tag))


# Orders


SETTINGS = (
    Settings(),
    Settings(
        bind=("fd:7", "unix:/a b"),
        tls_certificate=Path("/a/b.pem"),
        tls_key=Path("/k"),
        state_dir=Path("/somewhere/else"),
        database_url="postgresql://a:b%20@/x?host=%2Fc",
        redis_url="redis://h/",
        origins=("https://a.example", "*"),
        contracts=("catfish", "yum"),
        auth="required",
        jwt_secret='sécret with "quotes"',
        deflate=False,
        workers=7,
        grace_s=0.1 + 0.2,
        log_level="debug",
    ),
)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_worker_gets_every_setting_as_it_is(settings: Settings) -> None:
    orders = Orders(
        index=2,
        tag="a-_9",
        directory=Path("/run/x"),
        control=5,
        board=6,
        board_entries=8,
        entry=1,
        settings=settings,
    )
    environ = {VARIABLE: orders.encode(), "HOME": "/"}
    taken = Orders.take(environ)
    assert taken == orders
    for field in attrs.fields(Settings):
        assert type(getattr(taken.settings, field.name)) is type(getattr(settings, field.name))
    assert environ == {"HOME": "/"}


# Lines


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_lines_are_read_however_they_are_cut(size: int) -> None:
    messages: list[FromWorker] = [Ready(), Alive(3), Alive(20_000)]
    data = b"".join(map(build_line, messages))
    sender, receiver = memory_stream_one_way_pair()
    for start in range(0, len(data), size):
        await sender.send_all(data[start : start + size])
    await sender.aclose()
    lines = Lines(receiver, FROM_WORKER)
    assert [await lines.next() for _ in messages] == messages
    assert await lines.next() is None


@pytest.mark.parametrize("junk", [b"what?\n", b'{"type":"sing"}\n', b"x" * (LINE_BYTES_MAX + 2)])
async def test_what_is_no_message_is_an_error(junk: bytes) -> None:
    sender, receiver = memory_stream_one_way_pair()
    await sender.send_all(junk)
    with pytest.raises(msgspec.DecodeError):
        await Lines(receiver, FROM_WORKER).next()


# The board


def test_who_has_more_waits_and_who_has_fewest_does_not() -> None:
    with tempfile.TemporaryFile() as file:
        Board.prepare(file.fileno(), 4)
        with Board(file.fileno(), 4) as board, Board(file.fileno(), 4) as other:
            assert board.patience_s(0, 1_000) == 0  # there is nobody else
            board.write(0, 10)
            other.write(1, 3)
            assert board.read() == other.read() == (10, 3, None, None)
            assert board.patience_s(0, 10) == PATIENCE_S
            assert other.patience_s(1, 3) == 0
            assert board.patience_s(0, 4) == 0
            board.clear(1)
            assert board.patience_s(0, 10) == 0
            other.write(3, 1_000)
            assert board.patience_s(0, 1_020) == 0  # a few among many make no difference
            assert board.patience_s(0, 1_100) == PATIENCE_S


# The directory


@pytest.fixture
def no_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)


@pytest.mark.usefixtures("no_runtime")
def test_the_directory_is_for_us_alone_and_goes_with_us(tmp_path: Path) -> None:
    with open_directory(Settings(state_dir=tmp_path / "state")) as path:
        assert path.parent == tmp_path / "state"
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "socket").touch()
        with open_directory(Settings(state_dir=tmp_path / "state")) as second:
            assert second != path
            assert path.exists()
    assert list((tmp_path / "state").iterdir()) == []


def test_under_a_service_manager_it_is_in_the_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/elsewhere")
    with open_directory(Settings(state_dir=tmp_path / "state")) as path:
        assert path.parent == tmp_path


@pytest.mark.usefixtures("no_runtime")
def test_where_the_path_would_be_too_long_it_is_elsewhere(tmp_path: Path) -> None:
    with open_directory(Settings(state_dir=tmp_path / ("long" * 25))) as path:
        assert path.parent == Path(tempfile.gettempdir())


@pytest.mark.usefixtures("no_runtime")
def test_without_any_place_the_server_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(file))
    with pytest.raises(StartError, match="no place"), open_directory(Settings(state_dir=file / "x")):
        pass


@pytest.mark.usefixtures("no_runtime")
def test_what_a_killed_server_left_is_removed_but_not_what_is_in_use_or_new(tmp_path: Path) -> None:
    settings = Settings(state_dir=tmp_path)
    long_ago = time.time() - 2 * SETTLED_S
    left, new = tmp_path / f"{PREFIX}left", tmp_path / f"{PREFIX}new"
    for path in (left, new):
        path.mkdir()
    os.utime(left, (long_ago, long_ago))
    with open_directory(settings) as used:
        os.utime(used, (long_ago, long_ago))
        with open_directory(settings):
            assert used.exists()
        assert new.exists()
        assert not left.exists()


async def test_the_worker_side_of_a_pair_reads_none_when_the_parent_is_gone() -> None:
    ours, theirs = trio.socket.socketpair()
    stream = trio.SocketStream(theirs)
    ours.close()
    assert await Lines(stream, FROM_WORKER).next() is None
    await stream.aclose()
