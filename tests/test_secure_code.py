"""What is read from the source: no SQL is made of what somebody sent, and secrets are compared in constant time."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "catfish"
MODULES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text("utf-8")) for path in PACKAGE.rglob("*.py")}
NODES = [(name, node) for name, tree in MODULES.items() for node in ast.walk(tree)]
STORE = {name: tree for name, tree in MODULES.items() if name.startswith("store/")}

SQL = re.compile(
    r"\b(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|WHERE|FROM|VALUES|TRUNCATE|COPY|JOIN|ORDER BY|LIMIT)\b"
)
SENDS = frozenset(("execute", "executemany", "stream", "send_query", "send_query_params", "send_prepare", "prepare"))
"""Methods of psycopg whose first argument is SQL."""
PASSED_ON = re.compile(r"(numbered\()?(\w+\.)?query\)?")
"""SQL that a function is given is called `query`; it can only be what the second test lets pass."""
MAKES_TEXT = frozenset(("format", "join", "replace"))
EXCEPTIONS = {
    # The files in migrations/, and the name of our own database.
    ("store/migrations.py", "migration.sql.encode()"),
    ("store/embedded.py", "sql.SQL('CREATE DATABASE {}').format(sql.Identifier(DATABASE))"),
}
SECRET = re.compile(r"(^|_)(api_key|secret|password|signature|digest|hmac|token)s?($|_(hash|digest|key)$)")


def is_constant(node: ast.expr) -> bool:
    """Whether a value is known without running the program: it is made of literals and of constants."""
    match node:
        case ast.Constant():
            return True
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.isupper()
        case ast.JoinedStr(values=values):
            return all(is_constant(each.value) if isinstance(each, ast.FormattedValue) else True for each in values)
        case ast.BinOp(left=left, right=right):
            return is_constant(left) and is_constant(right)
        case ast.Call(func=ast.Attribute(value=value), args=args):
            return is_constant(value) and all(map(is_constant, args))
        case ast.Tuple(elts=elements) | ast.List(elts=elements):
            return all(map(is_constant, elements))
    return False


def literal_in(node: ast.expr) -> str:
    return " ".join(
        each.value for each in ast.walk(node) if isinstance(each, ast.Constant) and isinstance(each.value, str)
    )


def test_every_statement_is_written_in_the_source() -> None:
    """Values go beside it, as parameters."""
    for name, node in NODES:
        if name not in STORE:
            continue
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDS):
            continue
        statement = next((each for each in node.args if not isinstance(each, ast.Name) or each.id != "name"), None)
        if statement is None or isinstance(statement, ast.Starred):
            continue
        passed_on = PASSED_ON.fullmatch(ast.unparse(statement))
        excepted = (name, ast.unparse(statement)) in EXCEPTIONS
        assert passed_on or excepted or is_constant(statement), f"{name}:{node.lineno}: {ast.unparse(node)}"


def test_no_sql_is_put_together_from_anything_but_constants() -> None:
    for name, node in NODES:
        if isinstance(node, (ast.JoinedStr, ast.BinOp)) and SQL.search(literal_in(node)):
            is_text = isinstance(node, ast.JoinedStr) or isinstance(node.op, (ast.Add, ast.Mod))
            assert not is_text or is_constant(node), f"{name}:{node.lineno}: {ast.unparse(node)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MAKES_TEXT:
            excepted = (name, ast.unparse(node)) in EXCEPTIONS
            assert excepted or is_constant(node) or not SQL.search(literal_in(node)), f"{name}:{node.lineno}"


def test_the_exceptions_are_still_there() -> None:
    found = {
        (name, ast.unparse(each))
        for name, tree in STORE.items()
        for each in ast.walk(tree)
        if isinstance(each, ast.Call)
    }
    assert found >= EXCEPTIONS


def test_secrets_are_compared_in_constant_time() -> None:
    """`hmac.compare_digest`, or by a database that is asked for a hash; never byte by byte."""
    for name, node in NODES:
        if not isinstance(node, ast.Compare) or not any(isinstance(op, (ast.Eq, ast.NotEq)) for op in node.ops):
            continue
        sides = [node.left, *node.comparators]
        if any(isinstance(side, ast.Constant) for side in sides):
            continue  # with something that everybody may read
        for side in sides:
            called = getattr(side, "attr", getattr(side, "id", ""))
            assert not SECRET.search(called), f"{name}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize(
    ("source", "constant"),
    [
        ('"SELECT 1"', True),
        ('f"SELECT {COLUMNS} FROM t"', True),
        ('f"SELECT {name} FROM t"', False),
        ('"SELECT " + COLUMNS', True),
        ('"SELECT %s" % name', False),
        ('"SELECT {}".format(name)', False),
        ("queries.MESSAGES", True),
        ("make(name)", False),
    ],
)
def test_constants_are_told_from_what_is_not(source: str, constant: bool) -> None:
    assert is_constant(ast.parse(source, mode="eval").body) is constant
