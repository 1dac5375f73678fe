"""What `catfish instances` and `catfish rooms` print, and how they end; `tests/e2e` runs them beside servers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click.testing
import pytest

from catfish.administration import telling
from catfish.administration.asking import Shown
from catfish.cli import cli
from catfish.rooms.commands import RoomRecord
from catfish.rooms.model import Member, Message, Room, RoomKind
from catfish.rooms.moderation import NewReport
from catfish.rooms.ports import Figures, InstanceRecord, ListedRoom, RoomsPage
from tests.store.commands import create, join, match, send

Run = Callable[..., click.testing.Result]
ESCAPE = "\x1b[2J"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> Run:
    """Run a command against a database of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("catfish.log.set_up", lambda **_: None)
    environ = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "CATFISH_DATABASE_URL": database_url, "COLUMNS": "160"}
    monkeypatch.setattr("os.environ", environ)
    runner = click.testing.CliRunner()

    def run(*arguments: str, input: str | None = None) -> click.testing.Result:
        return runner.invoke(cli, arguments, prog_name="catfish", input=input)

    return run


@pytest.fixture
def in_store(database_url: str) -> Callable[..., Any]:
    """Do something with the store of that database."""
    import trio

    from catfish.config import Settings
    from catfish.store.postgres import PostgresStore

    def in_store(work: Callable[[PostgresStore], Any]) -> Any:
        async def main() -> Any:
            async with PostgresStore(database_url, Settings()) as store:
                return await work(store)

        return trio.run(main)

    return in_store


@pytest.fixture
def lobby(in_store: Callable[..., Any]) -> int:
    """Number of a room with a member and a message, beside a private one."""

    async def make(store: Any) -> int:
        den = create("den", kind=RoomKind.PRIVATE, name=f"The{ESCAPE} Den", code="abc234")
        [joined] = await store.commit([join("lobby", "ada")])
        await store.commit([den, send(joined.record.number, "ada", f"hi{ESCAPE}")])
        return int(joined.record.number)

    return int(in_store(make))


def test_the_commands_explain_themselves(run: Run) -> None:
    for command in (["instances"], ["rooms"], ["rooms", "list"], ["rooms", "show"], ["rooms", "close"]):
        result = run(*command, "--help")
        assert result.exit_code == 0
        assert "Usage: catfish " + command[0] in result.output
    assert {"instances", "rooms"} <= {line.split()[0] for line in run("-h").output.splitlines() if line.strip()}


@pytest.mark.parametrize(
    "arguments", [["rooms", "nothing"], ["rooms", "list", "--kind", "x"], ["rooms", "list", "--limit", "0"]]
)
def test_a_wrong_command_is_exit_status_2(run: Run, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


def test_rooms_are_lines_for_programs_without_anything_that_moves_a_cursor(run: Run, lobby: int) -> None:
    result = run("rooms", "list")
    lines = [line.split("\t") for line in result.output.splitlines()]
    assert lines[0][:6] == ["number", "room", "kind", "code", "name", "members"]
    assert lines[1][1:6] == ["den", "private", "abc234", "The␛[2J Den", "0"]
    assert lines[2][:7] == [str(lobby), "lobby", "open", "", "", "1", "1"]
    assert [line.split("\t")[1] for line in run("rooms", "list", "--kind", "private").output.splitlines()[1:]] == [
        "den"
    ]
    assert len(run("rooms", "list", "--name", "LOB").output.splitlines()) == 2


def test_rooms_are_a_table_on_a_terminal(run: Run, lobby: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("catfish.administration.commands.is_terminal", lambda: True)
    for command in (["list"], ["show", "lobby"]):
        result = run("rooms", *command)
        assert "\t" not in result.output
        assert "\x1b[2J" not in result.output
        assert "lobby" in result.output


def test_a_page_says_how_to_go_on(run: Run, lobby: int) -> None:
    result = run("rooms", "list", "--limit", "1")
    assert result.exit_code == 0
    assert f"there are more: --before {lobby + 1}" in result.output
    assert json.loads(run("rooms", "list", "--limit", "1", "--json").output)["before"] == lobby + 1


def test_a_room_is_closed_when_the_operator_agrees(run: Run, lobby: int) -> None:
    result = run("rooms", "close", "lobby", input="n\n")
    assert result.exit_code == 1
    assert "Close the open room lobby with 1 member for good?" in result.output
    assert "nothing was closed" in result.output
    result = run("rooms", "close", "lobby", input="y\n")
    assert result.exit_code == 0
    assert "closed the open room lobby with 1 member" in result.output
    assert "was closed before" in run("rooms", "close", "lobby").output
    assert json.loads(run("rooms", "show", "lobby", "--json").output)["room"]["closedAt"] is not None


def test_nobody_to_ask_closes_nothing(run: Run, lobby: int) -> None:
    result = run("rooms", "close", "lobby", input="")
    assert result.exit_code == 1
    assert json.loads(run("rooms", "show", "lobby", "--json").output)["room"]["closedAt"] is None


def test_a_room_that_is_not_there_is_said_to_be_so(run: Run) -> None:
    for command in (["show", "x"], ["close", "x", "--yes"]):
        result = run("rooms", *command)
        assert (result.exit_code, result.output) == (1, "catfish: there is no room with the id or code 'x'\n")


def test_a_matched_room_is_closed_too(run: Run, in_store: Callable[..., Any]) -> None:
    async def meet(store: Any) -> str:
        _, second = await store.commit([match("ann"), match("bob")])
        return str(second.record.room.id)

    room = in_store(meet)
    assert "with 2 members" in run("rooms", "close", room, "--yes").output


def test_a_database_that_is_away_is_said_to_be_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    os.environ["CATFISH_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/nothing"
    result = run("instances")
    assert result.exit_code == 1
    assert result.output.startswith("catfish: the database cannot be reached")


def test_a_schema_that_does_not_fit_is_said_to_be_so(run: Run, empty_database_url: str) -> None:
    import os

    os.environ["CATFISH_DATABASE_URL"] = empty_database_url
    result = run("instances")
    assert (result.exit_code, "not up to date" in result.output) == (1, True)


def test_reports_are_listed_shown_and_handled(run: Run, lobby: int, in_store: Callable[..., Any]) -> None:
    new = NewReport(number=lobby, room="lobby", by="bob", user="ada", seq=None, reason=f"rude{ESCAPE}")
    number = in_store(lambda store: store.moderation.report(new, 10))
    listed = run("reports", "list")
    assert (listed.exit_code, ESCAPE in listed.output) == (0, False)
    assert [line.split("\t")[2:5] for line in listed.output.splitlines()] == [
        ["room", "by", "about"],
        ["lobby", "bob", "ada"],
    ]
    shown = json.loads(run("reports", "show", str(number), "--json").output)
    assert (shown["reason"], shown["handledAt"], len(shown["messages"])) == (new.reason, None, 1)
    assert "ada" in run("reports", "show", str(number)).output
    assert run("reports", "handled", str(number)).exit_code == 0
    assert json.loads(run("reports", "list", "--json").output) == {"reports": [], "before": None}
    assert len(json.loads(run("reports", "list", "--handled", "--json").output)["reports"]) == 1
    for command in ("show", "handled"):
        result = run("reports", command, "999")
        assert (result.exit_code, result.output) == (1, "catfish: there is no report 999\n")


def instance(id: str, state: Any, left_ms: int, figures: Figures | None) -> InstanceRecord:
    return InstanceRecord(id=id, state=state, started_at=1_800_000_000_000, lease_left_ms=left_ms, figures=figures)


FIGURES = Figures(version="1.2", host="box", pid=7, connections=3, rooms=2, mirror="ok", mirror_lag_ms=4)


def test_instances_are_shown_with_what_they_told(capsys: pytest.CaptureFixture[str]) -> None:
    instances = [
        instance("i-1", "alive", 9_500, FIGURES),
        instance("i-2", "dead", -300_000, FIGURES),
        instance("i-3", "alive", 9_000, None),
        instance("i-4", "stopped", -8_000_000, None),
    ]
    telling.print_instances(instances, terminal=False)
    headers, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    cells = [dict(zip(headers, line, strict=True)) for line in lines]
    assert [(each["state"], each["lease"]) for each in cells] == [
        ("alive", "9.5 s"),
        ("dead", "5 min ago"),
        ("alive", "9.0 s"),
        ("stopped", "2 h ago"),
    ]
    assert [cells[0][name] for name in headers[4:]] == ["1.2", "box", "7", "3", "2", "0", "ok", "4 ms"]
    assert [cells[1][name] for name in headers[4:]] == ["1.2", "box", "7", "", "", "", "", ""]
    assert set(lines[2][4:]) == {""}
    shown = json.loads(telling.instances_as_json(instances))["instances"]
    assert (shown[0]["mirrorLagMs"], shown[0]["journalWaiting"], shown[2]["pid"]) == (4, 0, None)


def test_pages_and_rooms_are_json() -> None:
    room = Room(id="r", kind=RoomKind.OPEN, members_count=1, seq=1, created_at=5)
    listed = ListedRoom(record=RoomRecord(number=3, room=room, created_by="ada", revision=1), closed_at=9)
    assert json.loads(telling.rooms_as_json(RoomsPage(rooms=[listed], more=True)))["before"] == 3
    assert json.loads(telling.rooms_as_json(RoomsPage(rooms=[], more=False))) == {"rooms": [], "before": None}
    message = Message(room="r", seq=1, id=1, user="ada", name="Ada", content="hi", created_at=6)
    shown = Shown(listed, [Member(user="ada", name="Ada", since=5, away=True)], [message])
    told = json.loads(telling.room_as_json(shown))
    assert told["room"]["closedAt"] == 9
    assert told["members"] == [{"user": "ada", "name": "Ada", "since": 5, "away": True}]
    assert told["messages"][0]["content"] == "hi"
