"""What the requests of the native vocabulary have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from catfish.contracts.interface import Handled, Participant, Reply

EMPTY: Final[dict[str, Any]] = {}


class Request(msgspec.Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """Data of a request; a field that is not listed is refused."""


class Answer(msgspec.Struct, rename="camel", omit_defaults=True, kw_only=True):
    """Data of a reply."""


class Handler(NamedTuple):
    request: Any
    """The type of the event's data."""
    handle: Callable[[Participant, Any, Reply], Handled]
