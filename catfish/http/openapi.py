"""The OpenAPI document (https://spec.openapis.org/oas/v3.1.0), made from the operations."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from catfish import __version__
from catfish.http.operations import Access, Operation

REFERENCE: Final = "#/components/schemas/{name}"
SECURITY: Final[dict[Access, list[dict[str, list[str]]]]] = {
    "anyone": [],
    "caller": [{"token": []}, {"key": []}, {}],
    "token": [{"token": []}],
    "key": [{"key": []}],
    "server": [{"key": []}, {}],
}
"""What an operation asks for, any one of these; {} is nothing at all, where the server admits guests."""
SCHEMES: Final = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "Who the user is. Needed where `auth` is `required`, and wherever an account is meant.",
    },
    "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key", "description": "The key of the server API."},
}
IDEMPOTENCY_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
    "description": "The same request under the same key is carried out once; later ones get the first one's answer.",
}
ABOUT: Final = """\
HTTP beside the sockets, on the same port. Errors are JSON with a stable `code`. Times are milliseconds since the epoch,
and ISO 8601 where existing clients expect that. Pages go on at what the page before calls `next` or `nextCursor`."""


def build_document(operations: Sequence[Operation]) -> dict[str, Any]:
    """The document, as plain data."""
    kinds = [kind for operation in operations for kind in _kinds(operation)]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REFERENCE)
    described = dict(zip(map(_key, kinds), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = _describe(operation, described, components)
    used = _references(paths, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Catfish", "version": __version__, "description": ABOUT, "license": {"name": "MIT"}},
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": {name: schema for name, schema in components.items() if name in used},
            "securitySchemes": SCHEMES,
        },
    }


def _references(value: Any, components: dict[str, Any]) -> set[str]:
    """Names of the schemas that something refers to, also by way of others: queries become parameters, and are none."""
    found: set[str] = set()
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            name = str(each.get("$ref", "")).rpartition("/")[2]
            if name in components and name not in found:
                found.add(name)
                waiting.append(components[name])
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return found


def _kinds(operation: Operation) -> Iterator[Any]:
    if operation.query is not None:
        yield operation.query
    if operation.body is not None:
        yield from _alternatives(operation.body)
    yield from _alternatives(operation.answer)
    yield from _alternatives(operation.problem)


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return kind if isinstance(kind, tuple) else (kind,)


def _key(kind: Any) -> str:
    return repr(kind)


def _describe(operation: Operation, schemas: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _id(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": SECURITY[operation.access],
        "parameters": list(_parameters(operation, schemas, components)),
        "responses": {},
    }
    if operation.more:
        described["description"] = operation.more
    if operation.body is not None:
        content = {"application/json": {"schema": _schema(operation.body, schemas)}}
        described["requestBody"] = {"required": True, "content": content}
    answer = {
        "description": "As asked",
        "content": {operation.kind: {"schema": _schema(operation.answer, schemas)}},
    }
    for status in (operation.status, *operation.also):
        described["responses"][str(status)] = answer
    described["responses"]["default"] = {
        "description": "Refused",
        "content": {"application/json": {"schema": _schema(operation.problem, schemas)}},
    }
    return described


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    found = [schemas[_key(each)] for each in _alternatives(kind)]
    return found[0] if len(found) == 1 else {"anyOf": found}


def _parameters(operation: Operation, schemas: dict[str, Any], components: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for name in re.findall(r"\{(\w+)\}", operation.path):
        yield {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
    if operation.query is not None:
        schema = components[schemas[_key(operation.query)]["$ref"].rpartition("/")[2]]
        for name, described in schema["properties"].items():
            parameter: dict[str, Any] = {
                "name": name,
                "in": "query",
                "required": name in schema.get("required", ()),
                "schema": _without_null(described),
            }
            if "description" in parameter["schema"]:
                parameter["description"] = parameter["schema"].pop("description")
            yield parameter
    if operation.method == "post" and operation.access != "server":
        yield IDEMPOTENCY_KEY


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter that is not there is no null."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
        return {**choices[0], **rest}
    return dict(schema)


def _id(operation: Operation) -> str:
    words: list[str] = re.findall(r"\w+", operation.path)
    return operation.method + "".join(word[:1].upper() + word[1:] for word in words)
