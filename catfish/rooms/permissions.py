"""Who may do what in a room: the one place that decides. It knows nothing but the facts that it is given.

The facts are whom the room admits (`Access`), what somebody is to it (`Role`), what the token grants, bans and mutes,
and whether a server asks with its API key. Whoever asks has gathered them where they cannot change under one's feet: in
the store's transaction for what is stored, in the room in memory for what is not.

`TABLE` has what a role gives in a room of each access. `admitted` is somebody without a role who is in the room, or who
named it by its code. On top of that, in this order: servers may do everything; a token with grants allows no more than
it says, and makes a moderator of its bearer where it says so; a banned one may do nothing; a muted one may not speak.
"""

from __future__ import annotations

import ipaddress
from enum import StrEnum
from typing import Final, NamedTuple

from catfish.errors import Rejected
from catfish.rooms import grants as named
from catfish.rooms.grants import Grants
from catfish.rooms.model import Access, Role, RoomKind


class Right(StrEnum):
    JOIN = "enter it"
    SEE = "see it"
    READ = "read it"
    SEND = "write to it"
    EMIT = "tell its members anything"
    REPORT = "report what happens in it"
    INVITE = "invite somebody to it"
    MODERATE = "moderate it"
    APPOINT = "say who is what in it"
    CLOSE = "close it"


Standing = Role | str
"""A row of the table: a role, or `ADMITTED`."""
FOREVER: Final = 253_402_300_799_000
"""The end of the year 9999, in milliseconds since the epoch: a ban or a mute that lasts until it is taken back."""

_INSIDE: Final = frozenset((Right.JOIN, Right.SEE, Right.READ, Right.SEND, Right.EMIT, Right.REPORT))
_DOOR: Final = frozenset((Right.JOIN, Right.SEE))
_MODERATOR: Final = _INSIDE | {Right.INVITE, Right.MODERATE}
_ALL: Final = frozenset(Right)
_NOTHING: Final = frozenset[Right]()
_ROLES: Final[dict[Standing, frozenset[Right]]] = {Role.MEMBER: _INSIDE, Role.MODERATOR: _MODERATOR, Role.OWNER: _ALL}

ADMITTED: Final = "admitted"
"""Stands in the table for somebody without a role who is in the room or named its code."""
TABLE: Final[dict[Access, dict[Standing, frozenset[Right]]]] = {
    Access.PUBLIC: {Role.NONE: _INSIDE, ADMITTED: _INSIDE, Role.INVITED: _INSIDE, **_ROLES},
    Access.CODE: {Role.NONE: _NOTHING, ADMITTED: _INSIDE, Role.INVITED: _INSIDE, **_ROLES},
    Access.MEMBERS: {Role.NONE: _NOTHING, ADMITTED: _NOTHING, Role.INVITED: _DOOR, **_ROLES},
    Access.INVITED: {
        Role.NONE: _NOTHING,
        ADMITTED: _NOTHING,
        Role.INVITED: _DOOR,
        **_ROLES,
        Role.MEMBER: _INSIDE | {Right.INVITE},
    },
    # Nobody is anything in a room of two strangers; who waited first made it, and may look at it and end it.
    Access.PAIR: {
        Role.NONE: _NOTHING,
        ADMITTED: _INSIDE,
        Role.INVITED: _NOTHING,
        Role.MEMBER: _NOTHING,
        Role.MODERATOR: _NOTHING,
        Role.OWNER: frozenset((Right.SEE, Right.READ, Right.CLOSE)),
    },
}

GRANT_OF: Final = {
    Right.JOIN: named.JOIN,
    Right.SEE: named.READ,
    Right.READ: named.READ,
    Right.SEND: named.SEND,
    Right.EMIT: named.EMIT,
    Right.INVITE: named.MODERATE,
    Right.MODERATE: named.MODERATE,
    Right.APPOINT: named.MODERATE,
    Right.CLOSE: named.MODERATE,
}
"""What a token must grant for each right; to report nobody needs a grant."""
SPEAKING: Final = frozenset((Right.SEND, Right.EMIT))

_RANKS: Final = {Role.NONE: 0, Role.INVITED: 1, Role.MEMBER: 2, Role.MODERATOR: 3, Role.OWNER: 4}
_WORDS: Final = {
    (Access.CODE, Right.JOIN): "a private room is entered by its code",
    (Access.MEMBERS, Right.JOIN): "only its members enter the room",
    (Access.INVITED, Right.JOIN): "only who was invited enters the room",
    (Access.PAIR, Right.JOIN): "a matched room admits only the two who were matched",
}


class Facts(NamedTuple):
    """About somebody and a room, at one moment; times in milliseconds since the epoch."""

    access: Access
    role: Role = Role.NONE
    admitted: bool = False
    """Is in the room, or named it by its code."""
    outsider: bool = False
    """It is a conversation between accounts, and not one of theirs."""
    room: str = ""
    """The id, for the grants."""
    grants: Grants | None = None
    server: bool = False
    """It is a server, with the API key."""
    banned_until: int = 0
    """Also by the address."""
    muted_until: int = 0
    now: int = 0


def is_granted(right: Right, room: str, grants: Grants | None) -> bool:
    """Whether a token restricts its bearer to less; without one nothing is restricted."""
    grant = GRANT_OF.get(right)
    return grants is None or grant is None or grants.allows(room, grant)


def check_granted(right: Right, room: str, grants: Grants | None) -> None:
    """Raises: Rejected: forbidden."""
    if not is_granted(right, room, grants):
        raise _not_granted(right)


def _not_granted(right: Right) -> Rejected:
    return Rejected("forbidden", f"token: gives no right to {right.value} ({GRANT_OF[right]})")


def refusal(right: Right, facts: Facts) -> Rejected | None:
    """Why somebody may not do that; None when it may."""
    if facts.server:
        return None
    if facts.outsider:
        return Rejected("forbidden", "room: it is a conversation of others")
    grants = facts.grants
    if not is_granted(right, facts.room, grants):
        return _not_granted(right)
    if facts.banned_until > facts.now:
        return Rejected("banned", "you are banned from the room", _left_ms(facts.banned_until, facts.now))
    row = TABLE[facts.access]
    role = role_with(facts.role, facts.room, grants)
    if right not in row[role] and not (facts.admitted and right in row[ADMITTED]):
        words = _WORDS.get((facts.access, right), f"the room does not let you {right.value}")
        return Rejected("forbidden", words)
    if right in SPEAKING and facts.muted_until > facts.now:
        return Rejected("muted", "you are muted in the room", _left_ms(facts.muted_until, facts.now))
    return None


def check(right: Right, facts: Facts) -> None:
    """Raises: Rejected: banned, muted, forbidden."""
    refused = refusal(right, facts)
    if refused is not None:
        raise refused


def role_with(role: Role, room: str, grants: Grants | None) -> Role:
    """The role, with what a token makes of it."""
    if grants is not None and _RANKS[role] < _RANKS[Role.MODERATOR] and grants.allows(room, named.MODERATE):
        return Role.MODERATOR
    return role


def outranks(facts: Facts, other: Role) -> bool:
    """Whether one may moderate somebody of that role: members only by moderators, those only by the owner."""
    return facts.server or _RANKS[role_with(facts.role, facts.room, facts.grants)] > _RANKS[other]


def access_of(kind: RoomKind, code: str | None, stored: Access | None) -> Access:
    """Whom a room admits: what was chosen for it, or what its kind says."""
    if stored is not None:
        return stored
    if kind is RoomKind.OPEN:
        return Access.PUBLIC
    return Access.PAIR if kind is RoomKind.MATCHED and code is None else Access.CODE


def kind_and_access(kind: RoomKind | None, access: Access | None) -> tuple[RoomKind, Access | None]:
    """What somebody who makes a room asks for, with what it leaves out; the access is None where the kind says it.

    Raises:
        Rejected: bad_request, when the two contradict each other.
    """
    if access is Access.PAIR:
        raise Rejected("bad_request", "access: pair is what matching makes")
    if kind is None:
        kind = RoomKind.OPEN if access in (None, Access.PUBLIC) else RoomKind.PRIVATE
    if access is None:
        return kind, None
    if (kind is RoomKind.OPEN) is not (access is Access.PUBLIC) or (
        kind is RoomKind.MATCHED and access is not Access.CODE
    ):
        fits = {RoomKind.OPEN: "public", RoomKind.PRIVATE: "code, members or invited", RoomKind.MATCHED: "code"}
        raise Rejected("bad_request", f"access: of a room of the kind {kind.value} it is {fits[kind]}")
    return kind, access if access in (Access.MEMBERS, Access.INVITED) else None


def banned_address(address: str | None) -> str | None:
    """The form in which an address is banned: of IPv6 the network of 64 bits, out of which a machine picks as it likes.

    None for what is no address (a Unix socket), by which nobody is told from anybody else.
    """
    if not address:
        return None
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.IPv6Network((parsed, 64), strict=False))
    return str(parsed)


def until(now: int, duration_ms: int | None) -> int:
    """The end of a ban or a mute that begins now."""
    return FOREVER if duration_ms is None else min(now + duration_ms, FOREVER)


def _left_ms(end: int, now: int) -> int | None:
    return None if end >= FOREVER else end - now
