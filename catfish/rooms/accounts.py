"""Accounts, friends and conversations: what they are, and what the domain needs of their store.

A conversation is a room that belongs to accounts: its id is the room's, its messages are the room's. Whether an account
is present in the room is another matter.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal, Protocol

import msgspec

from catfish.rooms.model import Message

RequestStatus = Literal["pending", "accepted", "declined"]


PASSWORD: Final = "password"
"""The provider of accounts that were made with a password, for whose emails nobody vouches."""


class Account(msgspec.Struct, kw_only=True):
    id: str
    name: str
    email: str
    image: str | None
    provider: str
    oauth_id: str
    color: str
    created_at: int
    """Milliseconds since the epoch; so are all times here."""
    updated_at: int


class Conversation(msgspec.Struct, kw_only=True):
    number: int
    """The room's."""
    id: str
    name: str | None
    is_group: bool
    image: str | None
    created_at: int
    last_message_at: int
    """When the newest message was sent, also a deleted one; without any, when the conversation began."""


class Overview(msgspec.Struct, kw_only=True):
    """A conversation as one of its members sees it among the others."""

    conversation: Conversation
    members: list[Account]
    latest: Message | None


class FriendRequest(msgspec.Struct, kw_only=True):
    id: int
    status: RequestStatus
    created_at: int
    updated_at: int
    sender: Account
    receiver: Account


class Found(msgspec.Struct, kw_only=True):
    """An account that was looked for, and friends of it."""

    account: Account
    friends: list[Account]


class IdentityStore(Protocol):
    """Users who are somebody, beside guests. Every method may raise `StoreUnavailable`, and may be repeated then."""

    async def registered(self, users: Collection[str]) -> set[str]:
        """Those of them who have an account, or came with a token at some time."""
        ...

    async def register(self, users: Collection[str]) -> set[str]:
        """Remember that they came with a token; those of whom neither that nor an account was known."""
        ...


class AccountStore(Protocol):
    """Accounts in Postgres. Every method may raise `StoreUnavailable`, and may be repeated then."""

    async def secret(self, name: str, drawn: str) -> str:
        """The secret of that name; `drawn` becomes it when there is none yet."""
        ...

    async def account(self, id: str) -> Account | None: ...

    async def accounts(self, ids: Collection[str]) -> dict[str, Account]:
        """Those that there are, by id."""
        ...

    async def any_account(self) -> bool: ...

    async def sign_in(self, account: Account, conversation: str) -> Account:
        """The account with that email; when there is none, `account` is stored, and a conversation of that id with
        itself. The times in `account` do not count.

        Somebody vouches for the email. Whoever made an account of that email with a password did not prove that it is
        his own: the account keeps its id and becomes the provider's, its password and its refresh tokens end.
        """
        ...

    async def search(self, text: str, of: str, offset: int, limit: int) -> list[Found]:
        """Accounts whose name contains a text, in any case, newest first, each with some of its friends; `of` is among
        these first where it is one."""
        ...

    async def talk(self, caller: str, other: str, id: str) -> Conversation | None:
        """The conversation of two, or of one with itself; made with that id when there is none. None: `other` is no
        account."""
        ...

    async def gather(self, caller: str, members: Sequence[str], name: str, id: str) -> Conversation | None:
        """Make a group of these members, the caller among them. None: some of them are no accounts."""
        ...

    async def conversation(self, *, id: str | None = None, number: int | None = None) -> Overview | None:
        """A conversation by its id or its room's number; `latest` is left out."""
        ...

    async def conversations(self, account: str, limit: int) -> list[Overview]:
        """Those of an account: first the one with itself, then the one that was spoken in last, and so on."""
        ...

    async def may_enter(self, room: str, account: str) -> bool:
        """Whether the room of that id is no conversation, or the account is a member of it."""
        ...

    async def request(self, sender: str, receiver: str) -> tuple[FriendRequest, bool]:
        """The pending request between the two, and whether it was made by this call."""
        ...

    async def friend_request(self, id: int) -> FriendRequest | None: ...

    async def requests(self, account: str, limit: int) -> list[FriendRequest]:
        """Those that it sent or received and that were not declined, newest first."""
        ...

    async def accept(self, id: int, conversation: str) -> Conversation | None:
        """Make the two of a pending request friends; their conversation, made with that id when there is none. None: it
        was declined. Accepting again changes nothing."""
        ...

    async def decline(self, id: int) -> FriendRequest | None:
        """None: it is not pending any more. Declining again changes nothing."""
        ...

    async def are_friends(self, one: str, other: str) -> bool: ...

    async def part(self, one: str, other: str) -> bool:
        """Make two accounts no friends; whether they were."""
        ...
