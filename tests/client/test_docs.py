"""`docs/client.md` says what is so. That its example runs is tested with a real server, in `tests/e2e`."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from catfish import client
from catfish.client import Client, Limits, State, connect

GUIDE = (Path(__file__).parents[2] / "docs" / "client.md").read_text()


def test_every_limit_is_listed_with_its_default() -> None:
    listed = {name: float(default) for name, default in re.findall(r"^\| `(\w+)` \| (\d+) \|", GUIDE, re.MULTILINE)}
    assert listed == Limits()._asdict()


def test_every_argument_method_state_and_error_is_named() -> None:
    names = [*inspect.signature(connect).parameters, *(state.value for state in State)]
    names += [name for name in client.__all__ if name not in ("Client", "State", "Statistics", "Event")]
    ours = ("run", "aclose", "wait_open", "rooms")
    names += [name for name in dir(Client) if not name.startswith("_") and name not in ours]
    assert [name for name in names if not re.search(rf"`[^`]*\b{name}\b[^`]*`", GUIDE)] == []


def test_every_event_of_the_client_itself_is_listed() -> None:
    package = Path(client.__file__).parent
    told = set(re.findall(r'"(client:\w+)"', "".join(file.read_text() for file in package.glob("*.py"))))
    assert told == set(re.findall(r"^\| `(client:\w+)`", GUIDE, re.MULTILINE))


def test_every_piece_of_code_is_python() -> None:
    for code in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        ast.parse(code)
