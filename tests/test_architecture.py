"""The order of the layers, read from the imports, and what every file owes to its readers."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "catfish"
LINES_MAX = 500
TEXT_SUFFIXES = frozenset((".py", ".sh", ".md", ".sql", ".js", ".css", ".html", ".service"))

BASE = frozenset(("config", "errors"))
COUNTING = frozenset(("histogram", "tracing"))
"""Where what happens is counted and timed."""
LAYERS = {
    "errors": frozenset[str](),
    "config": frozenset(("errors", "config_fields")),
    "config_fields": frozenset[str](),
    "config_fallbacks": BASE,
    "config_sources": BASE | {"config_fields", "config_fallbacks"},
    "log": frozenset(("log_limit",)),
    "log_limit": frozenset[str](),
    "systemd": frozenset[str](),
    "private_server": frozenset(("errors",)),
    "histogram": frozenset[str](),
    "tracing": frozenset[str](),
    "wire": BASE,
    "rooms": BASE,
    "contracts": BASE | {"wire", "rooms"},
    "net": BASE | {"wire", "log"},
    "store": BASE | {"rooms", "private_server"},
    "mirror": BASE | {"rooms", "wire", "private_server"} | COUNTING,
    "auth": BASE | {"rooms", "wire", "config_fields"},
    "server": BASE | {"config_fields", "wire", "rooms", "contracts", "net", "store", "mirror", "auth"} | COUNTING,
    "http": BASE | {"wire", "rooms", "contracts", "net", "store", "mirror", "auth", "server", "log"} | COUNTING,
    "telemetry": BASE | {"rooms", "net", "store", "mirror", "server", "http", "log"} | COUNTING,
    "client": BASE | {"wire"},
    "load": BASE | {"wire"},
    "administration": BASE | {"rooms", "store", "auth", "client", "cli"},
}
"""Each part of the package, and the parts that it may import besides itself."""
BESIDE = frozenset(("client", "load", "administration"))
"""What works beside a server, and is no part of one."""
LAYERS["app"] = frozenset(LAYERS) - BESIDE - {"config_sources", "config_fallbacks", "config_fields"}
LAYERS["workers"] = LAYERS["app"] | {"app"}
LAYERS["cli"] = frozenset(LAYERS)
LAYERS["__main__"] = frozenset(("cli",))
LAYERS[""] = frozenset[str]()  # catfish/__init__.py: the version, for everyone

PURE = frozenset(("config", "errors", "wire", "rooms", "contracts"))
IMPURE_MODULES = frozenset(
    (
        *(
            "asyncio",
            "hypercorn",
            "logging",
            "multiprocessing",
            "psycopg",
            "psycopg_pool",
            "redis",
            "select",
            "selectors",
        ),
        *("signal", "socket", "ssl", "starlette", "subprocess", "threading", "trio", "trio_websocket"),
    )
)
"""What does I/O or waits: nothing for a layer that is tested without any of it."""
ONLY_IN = {
    "psycopg": frozenset(("store",)),
    "psycopg_pool": frozenset(("store",)),
    "redis": frozenset(("mirror",)),
    "hypercorn": frozenset(("net", "http", "app")),
    "starlette": frozenset(("http",)),
    "trio_websocket": frozenset(("client", "load")),
    "click": frozenset(("cli", "administration")),
    "rich": frozenset(("cli", "client", "load", "administration")),
    "prompt_toolkit": frozenset(("client",)),
    "prometheus_client": frozenset(("telemetry", "administration")),
    "opentelemetry": frozenset(("telemetry",)),
    "sentry_sdk": frozenset(("telemetry",)),
}
"""Libraries that one layer hides from the others."""


class Import(NamedTuple):
    module: str
    """What is imported, as "catfish.wire.http" or "trio.lowlevel"."""
    line: int
    at_start: bool
    """Executed when the importing module is: not within a function, not only for the type checker."""


@cache
def modules() -> dict[str, Path]:
    """Name -> file, of every module of the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


@cache
def imports_of(name: str) -> tuple[Import, ...]:
    return tuple(_imports(tree_of(modules()[name]), True))


def _imports(node: ast.AST, at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_start)
        elif isinstance(child, ast.ImportFrom):
            for alias in child.names:
                full = f"{child.module}.{alias.name}"
                yield Import(full if full in modules() else str(child.module), child.lineno, at_start)
        else:
            later = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) or (
                isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            )
            yield from _imports(child, at_start and not later)


def layer_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


EVERY_MODULE = pytest.mark.parametrize("name", modules())


@EVERY_MODULE
def test_imports_point_one_way(name: str) -> None:
    layer = layer_of(name)
    assert layer in LAYERS, f"{layer} has no place in the order of layers"
    wrong = [
        f"{name}:{found.line} imports {found.module}"
        for found in imports_of(name)
        if found.module.split(".")[0] == "catfish" and layer_of(found.module) not in LAYERS[layer] | {layer, ""}
    ]
    assert wrong == []


@EVERY_MODULE
def test_pure_layers_neither_wait_nor_do_io_and_libraries_stay_in_their_layer(name: str) -> None:
    layer = layer_of(name)
    for found in imports_of(name):
        top = found.module.split(".")[0]
        assert layer not in PURE or top not in IMPURE_MODULES, f"{name}:{found.line} imports {found.module}"
        assert layer in ONLY_IN.get(top, {layer}), f"{name}:{found.line} imports {found.module}"
        if top == "websockets":
            assert found.module in {"websockets.speedups", "websockets.utils"}, f"{name}:{found.line}: only unmasking"


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        name: {found.module for found in imports_of(name) if found.at_start} & modules().keys() for name in modules()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, " -> ".join((*above[above.index(name) :], name))
        if name not in done:
            for imported in sorted(graph[name]):
                visit(imported, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


@EVERY_MODULE
def test_every_module_says_what_it_is_and_fits_a_reader(name: str) -> None:
    path = modules()[name]
    assert ast.get_docstring(tree_of(path)), f"{path} has no docstring"
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= LINES_MAX, f"{path} has {lines} lines"


def test_every_package_is_one() -> None:
    directories = {path.parent for path in modules().values()}
    assert [directory for directory in directories if not (directory / "__init__.py").exists()] == []


def test_nothing_is_left_to_do_in_comments() -> None:
    reminder = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    tops = (ROOT / top for top in ("bin", "catfish", "docs", "migrations", "systemd", "tests"))
    files = [path for top in tops for path in top.rglob("*") if path.is_file() and "node_modules" not in path.parts]
    texts = [path for path in files if path.suffix in TEXT_SUFFIXES or path.parent.name == "bin"]
    assert [path for path in texts if reminder.search(path.read_text("utf-8"))] == []


def test_what_is_imported_is_declared_and_what_is_declared_is_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [project["optional-dependencies"][name] for name in ("otel", "sentry")]
    requirements = [each for some in (project["dependencies"], *extras) for each in some]
    declared = {_normal(re.split(r"[\[<>=~! ]", requirement)[0]) for requirement in requirements}
    known = {
        top: {_normal(name) for name in names} for top, names in importlib.metadata.packages_distributions().items()
    }
    imported = {found.module.split(".")[0] for name in modules() for found in imports_of(name)}
    third_party = imported - set(sys.stdlib_module_names) - {"catfish"}
    undeclared = {top for top in third_party if not known.get(top, {_normal(top)}) & declared}
    assert undeclared == set()
    unused = {name for name in declared if not any(name in known.get(top, {_normal(top)}) for top in third_party)}
    assert unused == set()


def _normal(name: str) -> str:
    """The name of a distribution as packaging compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()
