"""`/docs`: the OpenAPI document as a page. It is one file: no scripts, nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Any, Final

import msgspec

STYLE: Final = """
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 20%, transparent); }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 2.5rem; text-transform: capitalize; }
code, pre, .method { font-family: ui-monospace, monospace; font-size: .9em; }
details { border: 1px solid var(--line); border-radius: .4rem; margin: .4rem 0; padding: .4rem .8rem; }
details details { border-style: dashed; } summary { cursor: pointer; overflow-wrap: anywhere; }
.method { display: inline-block; font-weight: bold; min-width: 4.2rem; text-transform: uppercase; }
.about { opacity: .75; } pre { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .2rem .6rem .2rem 0; text-align: left; vertical-align: top; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What the page may load (Content Security Policy): nothing but its own style."""
NEEDS: Final = {"token": "a token", "key": "the API key"}


def build_page(document: dict[str, Any]) -> str:
    """The page, from the document as `openapi.build_document` makes it."""
    info = document["info"]
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(info['title'])}: HTTP API</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(info['title'])} {escape(info['version'])}: HTTP API</h1>",
        f"<p>{_text(info['description'])}</p>",
        '<p>For programs: <a href="/openapi.json"><code>/openapi.json</code></a>.</p>',
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        for path, methods in document["paths"].items():
            for method, operation in methods.items():
                if tag["name"] in operation["tags"]:
                    parts += _operation(path, method, operation)
    parts.append("<h2>Schemas</h2>")
    for name, schema in sorted(document["components"]["schemas"].items()):
        parts.append(f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>')
        parts += [*_fields(schema), "</details>"]
    parts.append("</body></html>")
    return "\n".join(parts)


def _operation(path: str, method: str, operation: dict[str, Any]) -> Iterator[str]:
    yield (
        f'<details><summary><span class="method">{method}</span> <code>{escape(path)}</code>'
        f' <span class="about">{escape(operation["summary"])}</span></summary>'
    )
    if "description" in operation:
        yield f"<p>{_text(operation['description'])}</p>"
    yield f"<p>Needs {_needs(operation['security'])}.</p>"
    if operation["parameters"]:
        yield "<table><tr><th>parameter</th><th>in</th><th>type</th><th></th></tr>"
        for each in operation["parameters"]:
            needed = " (needed)" if each["required"] else ""
            yield (
                f"<tr><td><code>{escape(each['name'])}</code>{needed}</td><td>{each['in']}</td>"
                f"<td>{_type(each['schema'])}</td><td>{_text(each.get('description', ''))}</td></tr>"
            )
        yield "</table>"
    if "requestBody" in operation:
        yield f"<p>Body: {_type(operation['requestBody']['content']['application/json']['schema'])}</p>"
    for status, response in operation["responses"].items():
        for kind, content in response["content"].items():
            shown = _type(content["schema"]) if kind == "application/json" else f"<code>{escape(kind)}</code>"
            yield f"<p>{'Refused' if status == 'default' else status}: {shown}</p>"
    yield "</details>"


def _needs(security: list[dict[str, Any]]) -> str:
    names = [NEEDS[name] for each in security for name in each]
    if not names:
        return "nothing"
    return " or ".join(names) + (", where guests are not admitted" if {} in security else "")


def _fields(schema: dict[str, Any]) -> Iterator[str]:
    if "description" in schema:
        yield f"<p>{_text(schema['description'])}</p>"
    if "properties" not in schema:
        yield f"<p>{_type(schema)}</p>"
        return
    yield "<table><tr><th>field</th><th>type</th><th></th></tr>"
    for name, each in schema["properties"].items():
        optional = "" if name in schema.get("required", ()) else " (optional)"
        yield (
            f"<tr><td><code>{escape(name)}</code>{optional}</td><td>{_type(each)}</td>"
            f"<td>{_text(each.get('description', ''))}</td></tr>"
        )
    yield "</table>"


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#{name}"><code>{name}</code></a>'
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " or ".join(f"<code>{escape(msgspec.json.encode(value).decode())}</code>" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    limits = [
        f"{words} {schema[key]}"
        for key, words in (("minimum", "from"), ("maximum", "to"), ("maxLength", "at most"))
        if key in schema
    ]
    return escape(" ".join([str(schema.get("type", "anything")), *limits]))


def _text(text: str) -> str:
    """With `code` as such."""
    pieces = escape(text).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))
