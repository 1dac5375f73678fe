"""docs/contracts.md: its vocabulary is installed as a package would be, and spoken; its tables name what there is."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import catfish.rooms.events as events
from catfish.contracts.interface import Participant, Vocabulary
from catfish.contracts.registry import BUILT_IN, load_vocabularies
from tests.contracts.harness import Socket, Sockets
from tests.server.harness import start_server

DOCUMENT = (Path(__file__).resolve().parent.parent.parent / "docs" / "contracts.md").read_text("utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT, re.DOTALL)
    assert found is not None
    return found[1]


@pytest.fixture
def whiteboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vocabulary:
    """The vocabulary of the document, from a package that has what the document's pyproject.toml makes."""
    project = tomllib.loads(block("toml"))["project"]
    [(name, value)] = project["entry-points"]["catfish.contracts"].items()
    module = value.partition(":")[0]
    (tmp_path / f"{module}.py").write_text(block("python"), "utf-8")
    metadata = tmp_path / f"{module}-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", "utf-8")
    (metadata / "entry_points.txt").write_text(f"[catfish.contracts]\n{name} = {value}\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    [*_, vocabulary] = load_vocabularies(["all"])
    assert vocabulary.name == name == "whiteboard"
    return vocabulary


async def open_board(sockets: Sockets, name: str) -> tuple[Socket, dict[str, Any]]:
    socket = sockets.connect()
    [answer] = await socket.ask("board:open", {"board": "plan", "name": name}) or []
    return socket, answer


async def test_the_vocabulary_of_the_document_works(nursery: trio.Nursery, whiteboard: Vocabulary) -> None:
    sockets = Sockets(await start_server(nursery), [*load_vocabularies(["peerprep"]), whiteboard])
    [native] = await sockets.server.join("plan", "nat")
    ann, answer = await open_board(sockets, "Ann")
    assert answer == {"ok": True, "people": ["nat", "Ann"]}
    bob, _ = await open_board(sockets, "Bob")
    assert bob.heard() == [("board:welcome", {"you": bob.who.user})]
    assert ann.heard()[1:] == [("board:came", {"name": "Bob"})]

    stroke = {"colour": "red", "points": b"\x00\x01\xff"}
    await ann.tell("board:stroke", stroke)
    assert (ann.heard(), bob.heard()) == ([], [("board:stroke", stroke)])
    await bob.tell("board:wipe")
    assert ann.heard() == bob.heard() == [("board:wipe",)]
    assert await ann.ask("board:note", {"text": "remember"}) == [{"ok": True, "seq": 1}]
    note = ("board:note", {"by": "Ann", "text": "remember", "seq": 1})
    assert ann.heard() == bob.heard() == [note]

    assert [event["event"] for event in native.heard("room:event")] == ["stroke", "wipe"]
    assert [event["content"] for event in native.heard("chat:message")] == ["remember"]
    await native.ask("chat:send", {"room": "plan", "content": "seen"})
    assert ann.heard() == [("board:note", {"by": "nat", "text": "seen", "seq": 2})]

    peer = sockets.connect()
    await peer.tell("join_room", {"userId": "pia", "username": "Pia", "roomId": "plan"})
    assert ann.heard() == [("board:came", {"name": "Pia"})]
    peer.heard()
    await peer.tell("leave_session")
    assert ann.heard() == [("board:went", {"name": "Pia"})]


async def test_the_vocabulary_of_the_document_refuses_what_is_wrong(
    nursery: trio.Nursery, whiteboard: Vocabulary
) -> None:
    sockets = Sockets(await start_server(nursery, journal_items_max=1), [whiteboard])
    ann, bob = sockets.connect(), sockets.connect()
    assert await ann.ask("board:note", {"text": "x"}) == [{"ok": False, "error": "board:open comes first"}]
    for socket in (ann, bob):
        await socket.ask("board:open", {"board": "plan", "name": "x"})
        socket.heard()
    assert await ann.ask("board:open", "plan") == [{"ok": False, "error": "board: must be text"}]
    assert await ann.ask("board:note", {"text": ""}) == [{"ok": False, "error": "text: must not be empty"}]
    [refused] = await ann.ask("board:stroke", {"n": 10**30}) or []
    assert refused["error"].startswith("stroke: ")
    sockets.server.store.hold()
    acks = [ann.request("board:note", {"text": "x"}) for _ in range(4)]
    sockets.server.store.release()
    await wait_all_tasks_blocked()
    assert {"ok": False, "error": "too much is waiting to be stored"} in [answers[0][0] for answers in acks]
    assert (ann.crash, bob.crash) == (None, None)
    assert {entry[0] for entry in bob.heard()} <= {"board:note"}


def test_the_document_names_what_there_is() -> None:
    kinds = {
        name
        for name, value in vars(events).items()
        if isinstance(value, type) and issubclass(value, events.Event) and name not in ("Event", "DurableEvent")
    }
    assert kinds - set(re.findall(r"`(\w+)`", DOCUMENT)) == set()
    assert set(BUILT_IN) <= set(re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE))
    methods = {name for name in vars(Participant) if not name.startswith("_")}
    used = set(re.findall(r"who\.(\w+)", DOCUMENT))
    attributes = set(Participant.__annotations__)
    assert used <= methods | attributes
    assert methods - used <= {"authenticate", "toggle", "changed_since"}
