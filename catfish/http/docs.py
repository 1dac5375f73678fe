"""The OpenAPI document and its page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from catfish.http.docs_page import POLICY, build_page
from catfish.http.openapi import build_document
from catfish.http.operations import Operation

TAG: Final = "documents"


def operations(others: Sequence[Operation]) -> list[Operation]:
    """Of a server with these operations; the document has its own as well."""
    document: dict[str, Any] = {}

    async def show_document(_: Request) -> Response:
        return Response(msgspec.json.encode(document), media_type="application/json")

    async def show_page(_: Request) -> Response:
        headers = {"content-security-policy": POLICY}
        return Response(build_page(document), media_type="text/html", headers=headers)

    found = [
        Operation(
            method="get",
            path="/openapi.json",
            summary="This document",
            tag=TAG,
            access="anyone",
            respond=show_document,
            answer=dict[str, Any],
        ),
        Operation(
            method="get",
            path="/docs",
            summary="The same as a page",
            tag=TAG,
            access="anyone",
            respond=show_page,
            answer=str,
            kind="text/html",
        ),
    ]
    document |= build_document([*others, *found])
    return found
