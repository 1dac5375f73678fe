"""The OpenAPI document and its page; and every operation under bad input."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio

from catfish.http.refusals import STATUS
from catfish.store.postgres import PostgresStore
from tests.http.harness import call, open_api, open_api_on

ROOT = Path(__file__).parents[2]
SECRET = "a secret of at least thirty-two bytes"
KEY = "the key of the server"


@pytest.fixture
async def document(nursery: trio.Nursery) -> dict[str, Any]:
    answer = await (await open_api(nursery)).get("/openapi.json")
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    found: dict[str, Any] = answer.json
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


async def test_the_document_has_every_operation_with_a_name_of_its_own(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    found = operations(document)
    ids = [operation["operationId"] for _, _, operation in found]
    assert len(set(ids)) == len(ids) > 30
    for method, path, operation in found:
        assert operation["summary"]
        assert {name for each in operation["security"] for name in each} <= document["components"][
            "securitySchemes"
        ].keys()
        named = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        assert ("requestBody" in operation) <= (method == "post")
        assert {"default"} < operation["responses"].keys()


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def references(value: Any) -> set[str]:
        if isinstance(value, dict):
            inner = set[str]().union(*(references(each) for each in value.values()))
            return inner | ({value["$ref"]} if isinstance(value.get("$ref"), str) else set())
        if isinstance(value, list):
            return set[str]().union(*(references(each) for each in value))
        return set()

    used = references(document["paths"]) | references(schemas)
    assert {reference.removeprefix("#/components/schemas/") for reference in used} == set(schemas)


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attributes:
            if name in ("src", "srcset", "action") or (tag == "link" and name == "href"):
                self.loads.append(str(value))
            elif name == "id":
                self.ids.add(str(value))
            elif name == "href":
                self.links.add(str(value))


async def test_the_page_has_every_operation_and_loads_nothing(document: dict[str, Any], nursery: trio.Nursery) -> None:
    answer = await (await open_api(nursery)).get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    text = answer.body.decode()
    page = Page()
    page.feed(text)
    assert page.loads == []
    assert "script" not in page.tags
    assert "@import" not in text
    assert "url(" not in text
    assert page.links == {"/openapi.json"} | {f"#{name}" for name in page.ids}
    for path in document["paths"]:
        assert f"<code>{path}</code>" in text


async def test_the_guide_names_what_there_is(document: dict[str, Any]) -> None:
    guide = (ROOT / "docs" / "http.md").read_text("utf-8")
    protocol = (ROOT / "docs" / "protocol.md").read_text("utf-8")
    named = {(method.lower(), path) for method, path in re.findall(r"`(GET|POST|DELETE) (/[\w/{}]+)", guide)}
    assert named <= {(method, path) for method, path, _ in operations(document)}
    assert len(named) > 8
    assert {code for code in STATUS if f"`{code}`" not in guide + protocol} == set()
    assert set(re.findall(r"`(\w+_\w+)`", guide)) >= {"idempotency_s", "login_from", "api_key", "jwt_secret"}


INJECTIONS = ["'; drop table rooms; --", "<script>", "../../etc/passwd", "%00", "%F0%9F%98%80", "x" * 3000, "%ff", "-1"]


async def test_bad_input_to_any_operation_is_answered_as_json_with_a_code_and_never_a_fault(
    postgres: PostgresStore, nursery: trio.Nursery, document: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    api = await open_api_on(postgres, nursery, api_key=KEY, jwt_secret=SECRET, request_body_bytes_max=2000)
    token = f"Bearer {jwt.encode({'sub': 'ann'}, SECRET)}"
    callers: list[dict[str, str]] = [{}, {"authorization": token}, {"x-api-key": KEY}]
    for method, path, operation in operations(document):
        if operation["tags"] in (["documents"], ["health"]):
            continue
        for headers in callers:
            for target, body, kind in bad_requests(path, operation):
                sent = {**headers, **({"content-type": kind} if kind else {})}
                answer = await call(api.app, method.upper(), target, body, sent)
                assert answer.status < 500, (method, target, body, answer)
                if answer.status >= 400:
                    assert answer.headers["content-type"] == "application/json"
                    assert isinstance(answer.json["code"], str), (method, target, body)
        answer = await call(api.app, "PATCH", path.replace("{", "").replace("}", ""), headers=callers[2])
        assert answer.status == 405
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def bad_requests(path: str, operation: dict[str, Any]) -> list[tuple[str, bytes, str]]:
    """Targets and bodies that are wrong, each in one way; some happen to be right for some operation."""
    plain = re.sub(r"\{\w+\}", "nothing", path)
    found = [(re.sub(r"\{\w+\}", text, path), b"{}", "application/json") for text in INJECTIONS if "{" in path]
    names = [each["name"] for each in operation["parameters"] if each["in"] == "query"]
    found += [
        (f"{plain}?{name}={text}", b"", "") for name in names for text in (*INJECTIONS, "", "9" * 30, "1e5", "NaN")
    ]
    found += [(f"{plain}?{name}=a&{name}=b", b"", "") for name in names]
    if "requestBody" in operation:
        bodies = [b"", b"{", b"[]", b"null", b"1", b'"x"', b"{}", b'{"unknown":1}', b"\xff", b"[" * 900, b"x" * 3000]
        found += [(plain, body, "application/json") for body in bodies]
        found += [(plain, b"{}", kind) for kind in ("", "text/plain", "application/xml", "multipart/form-data")]
        fields = ("chatId", "friendId", "requestId", "members", "content", "message", "user", "event", "roomCode")
        values = (b"null", b"-1", b"1e400", b"9" * 40, b"true", b"[]", b"{}", b'""', b'"a\\u0000b"', b'"\\ud800"')
        found += [
            (plain, b'{"%s":%s}' % (name.encode(), value), "application/json") for name in fields for value in values
        ]
    return found
