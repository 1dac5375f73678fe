"""What accounts may do: sign in, befriend each other, talk in conversations of two or in groups.

Whoever calls has made sure who is calling; what of that is allowed is decided here. Only members read a conversation or
write to it. A message is deleted by its author; in a conversation of two, which belongs to both of them alike, by
either.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Final, NamedTuple

from catfish.auth import tokens
from catfish.auth.tokens import Identity
from catfish.contracts.common import name_in
from catfish.contracts.pulsechat import posted
from catfish.errors import Rejected
from catfish.rooms.accounts import PASSWORD, Account, AccountStore, Conversation, Found, FriendRequest, Overview
from catfish.rooms.clock import now_ms
from catfish.rooms.codes import draw_id
from catfish.rooms.colors import color_of
from catfish.rooms.commands import Delete, SendMessage
from catfish.rooms.model import Message
from catfish.rooms.policy import bad_request
from catfish.rooms.uuids import canonical_uuid, draw_uuid, parse_message_uuid
from catfish.server.archive import available
from catfish.server.instance import Instance
from catfish.server.limits import Limits

SECRET_NAME: Final = "jwt"
TOKEN_DAYS: Final = 10
MESSAGES_PER_PAGE: Final = 30
ACCOUNTS_PER_PAGE: Final = 30
PAGES_MAX: Final = 10_000
CONVERSATIONS_LISTED_MAX: Final = 1_000
REQUESTS_LISTED_MAX: Final = 500
MEMBERS_MAX: Final = 256
"""Accounts in a group."""

NAME_CHARS_MAX: Final = 200
EMAIL_CHARS_MAX: Final = 320
IMAGE_CHARS_MAX: Final = 2_048
ORIGIN_CHARS_MAX: Final = 255
"""Of a provider's name, and of the id that it knows somebody by."""


class History(NamedTuple):
    number: int
    messages: list[Message]
    """Oldest first."""
    authors: dict[str, Account]


class Accounts:
    """Of one instance. Every method may be rejected as `unavailable`."""

    def __init__(self, instance: Instance, store: AccountStore) -> None:
        self._instance = instance
        self._store = store
        self._secret = instance.settings.jwt_secret
        self._any = False
        if self._secret is None:
            instance.tokens.own_secret = self._secret_of_all
        instance.is_vouched = self._is_vouched

    # Who somebody is

    async def _secret_of_all(self) -> str:
        """The secret of the settings; without one, that of the database."""
        if self._secret is None:
            self._secret = await available(self._store.secret(SECRET_NAME, secrets.token_urlsafe(48)))
        return self._secret

    async def sign(self, account: Account, valid_s: int = TOKEN_DAYS * 86_400) -> str:
        """A token that says who it is, and is valid for so many seconds."""
        claims = {"name": account.name, "email": account.email, "image": account.image, "id": account.id}
        if account.image is None:
            del claims["image"]
        settings = self._instance.settings
        secret = await self._secret_of_all()
        return tokens.sign(claims, secret, valid_s, issuer=settings.jwt_issuer, audience=settings.jwt_audience)

    @property
    def limits(self) -> Limits:
        """Of the instance."""
        return self._instance.limits

    async def verify(self, token: str) -> Identity:
        """Rejected: unauthorized, unavailable."""
        return await self._instance.tokens.verify(token)

    async def sign_in(self, *, name: str, email: str, provider: str, oauth_id: str, image: str | None) -> Account:
        """The account with that email, made when there is none. Who it is was found out by the caller."""
        policy = self._instance.policy
        account = Account(
            id=draw_id("u"),
            name=policy.label(name.strip(), "name", NAME_CHARS_MAX),
            email=policy.label(email, "email", EMAIL_CHARS_MAX),
            image=policy.label(image, "image", IMAGE_CHARS_MAX) if image else None,
            provider=policy.label(provider, "provider", ORIGIN_CHARS_MAX),
            oauth_id=policy.label(oauth_id, "oauth_id", ORIGIN_CHARS_MAX),
            color=color_of(email),
            created_at=0,
            updated_at=0,
        )
        self._any = True
        return await available(self._store.sign_in(account, draw_uuid()))

    def there_is_one(self) -> None:
        """An account was made."""
        self._any = True

    async def are_there(self) -> bool:
        """Whether there is any account."""
        self._any = self._any or await available(self._store.any_account())
        return self._any

    async def find(self, id: str) -> Account | None:
        if not 0 < len(id) <= 30 or not id.isprintable():
            return None
        return await available(self._store.account(id))

    async def own(self, user: str) -> Account:
        """The account of who calls. Rejected: unauthorized, when the token is of somebody without one."""
        account = await self.find(user)
        if account is None:
            raise Rejected("unauthorized", "token: names no account")
        return account

    async def other(self, id: str, field: str) -> Account:
        """Rejected: no_such_user."""
        account = await self.find(id)
        if account is None:
            raise Rejected("no_such_user", f"{field}: there is no such account")
        return account

    async def search(self, user: str, text: str, page: int) -> list[Found]:
        """Accounts by a part of their name; `page` counts from 1."""
        if "\0" in text or len(text) > NAME_CHARS_MAX:
            return []
        offset = (min(max(page, 1), PAGES_MAX) - 1) * ACCOUNTS_PER_PAGE
        return await available(self._store.search(text, user, offset, ACCOUNTS_PER_PAGE))

    # Conversations

    async def talk(self, user: str, other: str) -> Conversation:
        """The conversation of two, which begins when there is none yet. Rejected: no_such_user."""
        await self.own(user)
        await self.other(other, "members")
        found = await available(self._store.talk(user, other, draw_uuid()))
        if found is None:
            raise Rejected("no_such_user", "members: there is no such account")
        return found

    async def gather(self, user: str, members: Sequence[str], name: str) -> Conversation:
        """Begin a group. Rejected: bad_request, no_such_user."""
        await self.own(user)
        name = self._instance.policy.name(name)
        others = {member for member in members if member != user}
        if len(others) < 2:
            raise bad_request("members", "a group needs two others at least")
        if len(others) >= MEMBERS_MAX:
            raise bad_request("members", f"a group has {MEMBERS_MAX} members at most")
        if any(not 0 < len(member) <= 30 or not member.isprintable() for member in others):
            raise Rejected("no_such_user", "members: some are no accounts")
        found = await available(self._store.gather(user, sorted(others), name, draw_uuid()))
        if found is None:
            raise Rejected("no_such_user", "members: some are no accounts")
        return found

    async def conversations(self, user: str) -> list[Overview]:
        return await available(self._store.conversations(user, CONVERSATIONS_LISTED_MAX))

    async def conversation(self, id: str, user: str | None) -> Overview:
        """A conversation of `user`, or, for None, of whoever knows its id.

        Raises:
            Rejected: bad_request, no_such_conversation, forbidden.
        """
        canonical = canonical_uuid(id)
        if canonical is None:
            raise bad_request("chatId", "must be a UUID")
        found = await available(self._store.conversation(id=canonical))
        if found is None:
            raise Rejected("no_such_conversation", "chatId: there is no such conversation")
        if user is not None:
            _check_member(found, user)
        return found

    async def admits(self, room: str, user: str) -> bool:
        """Whether a room is open to a user who is known by a token: a conversation is to its members only."""
        if canonical_uuid(room) is None:
            return True
        return await available(self._store.may_enter(room, user))

    async def _is_vouched(self, user: str) -> bool:
        account = await self.find(user)
        return account is not None and account.provider != PASSWORD

    async def history(self, user: str, id: str, before: str | None) -> History:
        """A page of a conversation: the newest, or below the message of that UUID."""
        number = (await self.conversation(id, user)).conversation.number
        below = None
        if before is not None:
            place = parse_message_uuid(before)
            if place is None or place[0] != number:
                raise bad_request("pageParam", "must be the id of a message of the conversation")
            below = place[1]
        page = await self._instance.archive.undeleted(number, below=below, limit=MESSAGES_PER_PAGE)
        users = {message.user for message in page.messages}
        return History(number, page.messages, await available(self._store.accounts(users)))

    async def send(self, user: str, id: str, text: str | None) -> tuple[Message, int]:
        """Store a message, tell the conversation, and return the message with its room's number."""
        author = await self.own(user)
        conversation = (await self.conversation(id, user)).conversation
        command = SendMessage(
            number=conversation.number,
            room=conversation.id,
            user=user,
            name=name_in(author.name) or user,
            content=self._instance.policy.content(text, "message") if text else "",
            client_id=None,
            reply_to=None,
            data=posted(author.email, author.image),
            created_at=now_ms(),
        )
        return await self._instance.publisher.post(command), conversation.number

    async def delete(self, user: str, id: str) -> None:
        """Delete a message. Rejected: bad_request, no_such_message, not_your_message."""
        place = parse_message_uuid(id)
        if place is None:
            raise bad_request("messageId", "must be the id of a message")
        number, seq = place
        found = await available(self._store.conversation(number=number))
        if found is None or all(member.id != user for member in found.members):
            raise Rejected("no_such_message", "messageId: there is no such message")
        page = await self._instance.archive.undeleted(number, below=seq + 1, limit=1)
        if not page.messages or page.messages[0].seq != seq:
            raise Rejected("no_such_message", "messageId: there is no such message")
        author = page.messages[0].user
        if author != user and found.conversation.is_group:
            raise Rejected("not_your_message", "messageId: only its author deletes a message")
        await self._instance.publisher.perform(
            found.conversation.id, Delete(number=number, seq=seq, user=author, at=now_ms())
        )

    # Friends

    async def request(self, user: str, other: str) -> tuple[FriendRequest, bool]:
        """Ask somebody to be a friend; the request, and whether it is a new one.

        Raises:
            Rejected: bad_request, no_such_user, already_friends.
        """
        await self.own(user)
        if other == user:
            raise bad_request("friendId", "must not be oneself")
        await self.other(other, "friendId")
        if await available(self._store.are_friends(user, other)):
            raise Rejected("already_friends", "friendId: you are friends already")
        return await available(self._store.request(user, other))

    async def requests(self, user: str) -> list[FriendRequest]:
        return await available(self._store.requests(user, REQUESTS_LISTED_MAX))

    async def accept(self, user: str, id: int, sender: str) -> tuple[Conversation, Account]:
        """Accept a request of `sender`: the conversation with the new friend, and the friend.

        Raises:
            Rejected: no_such_request, forbidden, bad_request, request_answered.
        """
        request = await self._received(user, id)
        if sender != request.sender.id:
            raise bad_request("friendId", "is not the one who sent the request")
        conversation = await available(self._store.accept(id, draw_uuid()))
        if conversation is None:
            raise Rejected("request_answered", "requestId: the request was declined")
        return conversation, request.sender

    async def decline(self, user: str, id: int) -> FriendRequest:
        """Decline a request. Rejected: no_such_request, forbidden, request_answered."""
        await self._received(user, id)
        declined = await available(self._store.decline(id))
        if declined is None:
            raise Rejected("request_answered", "requestId: the request was accepted")
        return declined

    async def part(self, user: str, other: str) -> Account:
        """Be friends no more. Rejected: no_such_user, when they are none."""
        friend = await self.other(other, "friendId")
        if not await available(self._store.part(user, other)):
            raise Rejected("no_such_user", "friendId: is no friend")
        return friend

    async def _received(self, user: str, id: int) -> FriendRequest:
        request = await available(self._store.friend_request(id))
        if request is None or user not in (request.sender.id, request.receiver.id):
            raise Rejected("no_such_request", "requestId: there is no such request")
        if user != request.receiver.id:
            raise Rejected("forbidden", "requestId: only the one who received a request answers it")
        return request


def _check_member(overview: Overview, user: str) -> None:
    if all(member.id != user for member in overview.members):
        raise Rejected("forbidden", "chatId: only members of the conversation do that")
