"""What PulseChat's routes answer: its accounts, conversations, messages and requests, in the keys and the order that
its clients know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from catfish.contracts.common import iso
from catfish.contracts.pulsechat import show_stored
from catfish.rooms.accounts import Account, Conversation, Found, FriendRequest, Overview
from catfish.rooms.model import Message
from catfish.rooms.uuids import message_uuid


def show_own_account(account: Account, token: str | None = None) -> dict[str, Any]:
    """An account as its owner sees it."""
    shown = {
        "id": account.id,
        "name": account.name,
        "email": account.email,
        "image": account.image,
        "provider": account.provider,
        "oauth_id": account.oauth_id,
        "color": account.color,
        "createdAt": iso(account.created_at),
        "updatedAt": iso(account.updated_at),
    }
    return shown if token is None else {**shown, "token": f"Bearer {token}"}


def show_account(account: Account) -> dict[str, Any]:
    """An account as others see it: where it signs in is its own affair."""
    return {
        "id": account.id,
        "name": account.name,
        "email": account.email,
        "image": account.image,
        "color": account.color,
        "createdAt": iso(account.created_at),
        "updatedAt": iso(account.updated_at),
    }


def show_found(found: Found) -> dict[str, Any]:
    account = found.account
    return {
        "name": account.name,
        "image": account.image,
        "createdAt": iso(account.created_at),
        "id": account.id,
        "friendOf": [show_account(friend) for friend in found.friends],
    }


def show_conversation(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "name": conversation.name,
        "isGroup": conversation.is_group,
        "image": conversation.image,
        "createdAt": iso(conversation.created_at),
        "lastMessageAt": iso(conversation.last_message_at),
    }


def show_with_members(overview: Overview) -> dict[str, Any]:
    conversation = overview.conversation
    return {
        **show_conversation(conversation),
        "users": [
            {
                "userId": member.id,
                "conversationId": conversation.id,
                "user": {"id": member.id, "email": member.email, "name": member.name, "image": member.image},
            }
            for member in overview.members
        ],
    }


def show_overview(overview: Overview, user: str) -> dict[str, Any]:
    """A conversation in the list of `user`, with its latest message."""
    latest, number = overview.latest, overview.conversation.number
    names = {member.id: member.name for member in overview.members}
    messages = []
    if latest is not None:
        messages = [{**show_sent(latest, number), "createdBy": {"name": names.get(latest.user, latest.name)}}]
    return {
        "userId": user,
        "conversationId": overview.conversation.id,
        "conversation": {**show_with_members(overview), "messages": messages},
    }


def show_sent(message: Message, number: int) -> dict[str, Any]:
    """A message as the one who sent it is answered; `number` is its room's."""
    stored = show_stored(message)
    return {
        "id": message_uuid(number, message.seq),
        "body": stored["body"],
        "image": stored["image"],
        "public_id": stored["public_id"],
        "userId": message.user,
        "conversationId": message.room,
        "isEdited": stored["isEdited"],
        "createdAt": stored["createdAt"],
        "updatedAt": stored["updatedAt"],
    }


def show_in_history(message: Message, number: int, authors: Mapping[str, Account]) -> dict[str, Any]:
    """A message in a page; `authors` are the accounts among those who wrote it."""
    author = authors.get(message.user)
    stored = show_stored(message)
    return {
        "createdBy": {
            "name": message.name if author is None else author.name,
            "id": message.user,
            "email": None if author is None else author.email,
            "image": None if author is None else author.image,
        },
        "body": stored["body"],
        "createdAt": stored["createdAt"],
        "updatedAt": stored["updatedAt"],
        "id": message_uuid(number, message.seq),
        "image": stored["image"],
        "isEdited": stored["isEdited"],
        "public_id": stored["public_id"],
    }


def show_request(request: FriendRequest) -> dict[str, Any]:
    return {
        "id": request.id,
        "senderId": request.sender.id,
        "receiverId": request.receiver.id,
        "status": request.status,
        "createdAt": iso(request.created_at),
        "updatedAt": iso(request.updated_at),
        "sender": _show_party(request.sender),
        "receiver": _show_party(request.receiver),
    }


def _show_party(account: Account) -> dict[str, Any]:
    return {
        "name": account.name,
        "email": account.email,
        "image": account.image,
        "id": account.id,
        "createdAt": iso(account.created_at),
        "updatedAt": iso(account.updated_at),
    }
