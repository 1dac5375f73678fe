"""Operations: what a method on a path takes, who may ask for it, and what it answers.

The routes and the OpenAPI document are made from the same list of them, so the document says what the code does.
Operations of our own are typed: their query and body become structs, what they return is encoded. Those that existing
clients know have handlers of their own, and their types are there for the document alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final, Literal, TypeVar

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from catfish.auth.tokens import Identity
from catfish.errors import Rejected
from catfish.http.refusals import Handler, Shape, telling
from catfish.http.requests import identify, read
from catfish.http.routing import route
from catfish.http.trust import has_api_key
from catfish.rooms.moderation import Actor
from catfish.rooms.policy import bad_request
from catfish.server.access import acting
from catfish.server.identification import QUERY
from catfish.server.instance import Instance
from catfish.wire.native import explain

T = TypeVar("T")
SERVER: Final = "server"
"""Who does something when a server does it in nobody's name."""

Access = Literal["anyone", "caller", "token", "key", "server"]
"""anyone: nothing is asked. caller: as on the sockets, by token where tokens are required. token: a token in any case.
key: the API key. server: the API key, or a trusted address."""


class Problem(msgspec.Struct):
    """A refusal as routes of our own tell it."""

    status: Literal["fail", "error"]
    """fail: the client is to blame; error: the server."""
    code: str
    message: str


@attrs.frozen(kw_only=True)
class Call:
    """A request to a typed operation."""

    request: Request
    path: Mapping[str, str]
    """Parameters of the path."""
    query: Any
    body: Any
    identity: Identity | None
    """Whom the token names; None for guests, and for servers with the key."""
    is_server: bool
    """It came with the API key."""

    @property
    def user(self) -> str | None:
        return None if self.identity is None else self.identity.user

    @property
    def by(self) -> Actor:
        """Who asks; a guest is nobody."""
        if self.is_server:
            return Actor(user=SERVER, server=True)
        return acting(self.identity)

    @property
    def known(self) -> Actor:
        """Who asks, by a token or the key. Rejected: unauthorized."""
        if self.identity is None and not self.is_server:
            raise Rejected("unauthorized", "token: is required")
        return self.by


@attrs.frozen(kw_only=True)
class Operation:
    method: Literal["get", "post", "delete"]
    path: str
    summary: str
    tag: str
    access: Access
    respond: Handler
    answer: Any
    """Type of the answer's body; a tuple: one of these."""
    status: int = 200
    also: tuple[int, ...] = ()
    """Further statuses with the same answer."""
    query: type[msgspec.Struct] | None = None
    body: Any = None
    """Type of the body, a struct; a tuple: one of these."""
    problem: Any = Problem
    """Type of the body of a refusal; a tuple: one of these."""
    shape: Shape | None = None
    """How refusals that `respond` raises are told; None: as a `Problem`."""
    more: str = ""
    """What the summary leaves out."""
    kind: str = "application/json"
    """Content type of the answer."""


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(value), status, headers, "application/json")


Typed = Callable[[Call], Awaitable[Any]]


class Operations:
    """Collects operations.

    Args:
        shape: of refusals, where they are told in another than our own.
        problem: its type.
    """

    def __init__(self, instance: Instance, tag: str, shape: Shape | None = None, problem: Any = Problem) -> None:
        self._instance = instance
        self._tag = tag
        self._shape = shape
        self._problem = problem
        self.all: list[Operation] = []

    def add(
        self,
        method: Literal["get", "post", "delete"],
        path: str,
        summary: str,
        respond: Handler,
        *,
        access: Access,
        answer: Any,
        more: str = "",
        status: int = 200,
        also: tuple[int, ...] = (),
        query: type[msgspec.Struct] | None = None,
        body: Any = None,
    ) -> None:
        """An operation with a handler of its own."""
        self.all.append(
            Operation(
                method=method,
                path=path,
                summary=summary,
                tag=self._tag,
                access=access,
                respond=respond,
                answer=answer,
                status=status,
                also=also,
                query=query,
                body=body,
                problem=self._problem,
                shape=self._shape,
                more=more,
            )
        )

    def typed(
        self,
        method: Literal["get", "post", "delete"],
        path: str,
        summary: str,
        handle: Typed,
        *,
        access: Literal["caller", "key"],
        answer: Any,
        more: str = "",
        status: int = 200,
        query: type[msgspec.Struct] | None = None,
        body: type[msgspec.Struct] | None = None,
    ) -> None:
        """An operation whose handler gets a `Call`, and returns what is encoded."""
        instance = self._instance

        async def respond(request: Request) -> Response:
            is_server = has_api_key(request, instance.settings)
            if access == "key" and not is_server:
                raise Rejected("unauthorized", "the key of the server API is required")
            call = Call(
                request=request,
                path=request.path_params,
                query=None if query is None else parse_query(request, query),
                identity=None if is_server else await identify(request, instance),
                is_server=is_server,
                body=None if body is None else await read(request, instance.settings, body),
            )
            return json_answer(await handle(call), status)

        self.add(
            method,
            path,
            summary,
            respond,
            access=access,
            answer=answer,
            more=more,
            status=status,
            query=query,
            body=body,
        )


def parse_query(request: Request, kind: type[T]) -> T:
    """The parameters of a query. Rejected: bad_request."""
    values: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in QUERY:  # a token, which was taken already
            continue
        if name in values:
            raise bad_request(name, "comes more than once")
        values[name] = value
    try:
        query = msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Rejected("bad_request", explain(error, "query")) from None
    for name in values:
        if getattr(query, name) is None:  # msgspec reads the text "null" as such
            raise bad_request(name, "must not be null")
    return query


def build_routes(operations: Iterable[Operation], once: Callable[[Handler], Handler] | None = None) -> list[BaseRoute]:
    """One route for each path.

    Args:
        once: around the handlers of POST requests (`Idempotency.once`).
    """
    by_path: dict[str, dict[str, Handler]] = {}
    for operation in operations:
        handlers = by_path.setdefault(operation.path, {})
        assert operation.method not in handlers, f"two operations {operation.method} {operation.path}"
        handler = operation.respond
        if once is not None and operation.method == "post":
            handler = once(handler)
        handlers[operation.method] = handler if operation.shape is None else telling(operation.shape, handler)
    return [route(path, **handlers) for path, handlers in by_path.items()]
