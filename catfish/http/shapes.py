"""Bodies that existing clients know, as types for the OpenAPI document; what makes them is in `catfish.contracts`."""

from __future__ import annotations

from typing import Literal, TypedDict


class ChatPocProblem(TypedDict):
    error: str
    code: str


class ChatPocMessage(TypedDict):
    id: int
    roomId: int
    sender: str
    content: str
    createdAt: str
    roomCode: str | None


class YumProblem(TypedDict):
    ok: Literal[False]
    error: str
    code: str


class YumMessage(TypedDict):
    roomId: str
    userId: str
    content: str
    timestamp: str
    id: int
    seq: int


class YumPage(TypedDict):
    messages: list[YumMessage]
    nextCursor: str | None


class PulseProblem(TypedDict):
    status: int
    message: str
    code: str


class OtherAccount(TypedDict):
    id: str
    name: str
    email: str
    image: str | None
    color: str
    createdAt: str
    updatedAt: str


class OwnAccount(OtherAccount):
    provider: str
    oauth_id: str


class SignedIn(OwnAccount):
    token: str


class LoginAnswer(TypedDict):
    message: str
    user: SignedIn


class TokensAnswer(TypedDict):
    accessToken: str
    refreshToken: str
    tokenType: str
    expiresIn: int
    """Seconds that the access token is valid."""


class LoggedAnswer(TokensAnswer):
    message: str
    user: SignedIn


class Nothing(TypedDict):
    pass


class FoundAccount(TypedDict):
    name: str
    image: str | None
    createdAt: str
    id: str
    friendOf: list[OtherAccount]


class FoundAnswer(TypedDict):
    users: list[FoundAccount]
    status: Literal[200]


class UserAnswer(TypedDict, total=False):
    user: OtherAccount
    message: Literal["No User found"]
    status: Literal[200]


class Party(TypedDict):
    name: str
    email: str
    image: str | None
    id: str
    createdAt: str
    updatedAt: str


class Request(TypedDict):
    id: int
    senderId: str
    receiverId: str
    status: Literal["pending", "accepted", "declined"]
    createdAt: str
    updatedAt: str
    sender: Party
    receiver: Party


class RequestAnswer(TypedDict, total=False):
    friendRequest: Request
    existingFriend: Request
    message: Literal["Request already sent"]
    status: Literal[200]


class RequestsAnswer(TypedDict):
    friendRequests: list[Request]
    status: Literal[200]


class PulseConversation(TypedDict):
    id: str
    name: str | None
    isGroup: bool
    image: str | None
    createdAt: str
    lastMessageAt: str


class AcceptedAnswer(TypedDict):
    newConversation: PulseConversation
    newFriend: OtherAccount
    status: Literal[200]


class DeclinedAnswer(TypedDict):
    declinedRequest: Request
    status: Literal[200]


class RemovedAnswer(TypedDict):
    removedFriend: OtherAccount
    status: Literal[200]


class MemberUser(TypedDict):
    id: str
    email: str
    name: str
    image: str | None


class ConversationMember(TypedDict):
    userId: str
    conversationId: str
    user: MemberUser


class ConversationWithMembers(PulseConversation):
    users: list[ConversationMember]


class SentMessage(TypedDict):
    id: str
    body: str | None
    image: str | None
    public_id: str | None
    userId: str
    conversationId: str
    isEdited: Literal[True] | None
    createdAt: str
    updatedAt: str


class AuthorName(TypedDict):
    name: str


class LatestMessage(SentMessage):
    createdBy: AuthorName


class ListedConversation(ConversationWithMembers):
    messages: list[LatestMessage]


class OwnConversation(TypedDict):
    userId: str
    conversationId: str
    conversation: ListedConversation


class ConversationAnswer(TypedDict):
    conversation: PulseConversation
    status: Literal[200]


class ConversationsAnswer(TypedDict):
    conversations: list[OwnConversation]
    status: Literal[200]


class ShownConversationAnswer(TypedDict):
    conversation: ConversationWithMembers | None
    status: Literal[200]


class Author(TypedDict):
    name: str
    id: str
    email: str | None
    image: str | None


class HistoryMessage(TypedDict):
    createdBy: Author
    body: str | None
    createdAt: str
    updatedAt: str
    id: str
    image: str | None
    isEdited: Literal[True] | None
    public_id: str | None


class HistoryAnswer(TypedDict):
    messages: list[HistoryMessage]
    status: Literal[200]


class SentAnswer(TypedDict):
    message: SentMessage
    status: Literal[200]


class DeletedAnswer(TypedDict):
    message: Literal["Message Deleted"]
    status: Literal[200]


class Service(TypedDict):
    service: str
    docs: str
    openapi: str


class ShortHealth(TypedDict):
    ok: bool
    uptime: float


class FullHealth(ShortHealth):
    status: Literal["ok", "unavailable"]
    service: str
