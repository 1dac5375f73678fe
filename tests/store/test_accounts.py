"""Accounts, conversations and friends in Postgres."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio

from catfish.rooms.accounts import Account
from catfish.rooms.commands import Sent
from catfish.store.accounts import Accounts
from catfish.store.postgres import PostgresStore
from tests.store.commands import delete, send


@pytest.fixture
def accounts(postgres: PostgresStore) -> Accounts:
    return postgres.accounts


def account(who: str, **changes: Any) -> Account:
    values: dict[str, Any] = {
        "id": f"u-{who}",
        "name": who.capitalize(),
        "email": f"{who}@example.test",
        "image": None,
        "provider": "google",
        "oauth_id": f"oid-{who}",
        "color": "#123456",
        "created_at": 0,
        "updated_at": 0,
    }
    return Account(**{**values, **changes})


async def sign_in(accounts: Accounts, *names: str) -> list[Account]:
    return [await accounts.sign_in(account(name), draw()) for name in names]


def draw() -> str:
    return str(uuid.uuid4())


async def at_once(call: Callable[[], Awaitable[Any]], times: int = 8) -> list[Any]:
    results: list[Any] = []

    async def run() -> None:
        results.append(await call())

    async with trio.open_nursery() as nursery:
        for _ in range(times):
            nursery.start_soon(run)
    return results


async def test_a_secret_is_drawn_once(accounts: Accounts) -> None:
    assert await accounts.secret("jwt", "first") == "first"
    assert await accounts.secret("jwt", "second") == "first"
    assert await accounts.secret("other", "third") == "third"


async def test_the_first_sign_in_makes_the_account_and_a_conversation_with_itself(accounts: Accounts) -> None:
    assert not await accounts.any_account()
    conversation = draw()
    ann = await accounts.sign_in(account("ann", image="http://img.test/ann"), conversation)
    assert await accounts.any_account()
    assert (ann.id, ann.name, ann.email, ann.image) == ("u-ann", "Ann", "ann@example.test", "http://img.test/ann")
    assert ann.created_at == ann.updated_at > 1_700_000_000_000
    again = await accounts.sign_in(account("ann", id="u-2", name="Other", image=None, provider="github"), draw())
    assert again == ann
    [overview] = await accounts.conversations("u-ann", 10)
    assert (overview.conversation.id, overview.members, overview.latest) == (conversation, [ann], None)
    assert not overview.conversation.is_group
    assert await accounts.account("u-ann") == ann
    assert await accounts.account("u-2") is None


async def test_signing_in_several_times_at_once_makes_one_account(accounts: Accounts) -> None:
    found = await at_once(lambda: accounts.sign_in(account("ann", id=f"u-{draw()[:8]}"), draw()))
    assert len({each.id for each in found}) == 1
    assert len(await accounts.conversations(found[0].id, 10)) == 1


async def test_a_conversation_of_two_is_the_same_from_both_sides(accounts: Accounts) -> None:
    ann, bob = await sign_in(accounts, "ann", "bob")
    first = await accounts.talk("u-ann", "u-bob", draw())
    assert first is not None
    assert first == await accounts.talk("u-bob", "u-ann", draw())
    assert (first.is_group, first.name, first.last_message_at) == (False, None, first.created_at)
    overview = await accounts.conversation(id=first.id)
    assert overview is not None
    assert (overview.conversation, overview.members) == (first, [ann, bob])
    assert await accounts.conversation(number=first.number) == overview
    assert await accounts.talk("u-ann", "u-nobody", draw()) is None
    assert await accounts.conversation(id=draw()) is None


async def test_two_who_begin_at_once_share_one_conversation(accounts: Accounts) -> None:
    await sign_in(accounts, "ann", "bob")
    sides = [("u-ann", "u-bob"), ("u-bob", "u-ann")] * 8
    found = await at_once(lambda: accounts.talk(*sides.pop(), draw()))
    assert len({conversation.id for conversation in found}) == 1
    assert len(await accounts.conversations("u-ann", 10)) == 2


async def test_a_group_has_its_members_and_the_one_who_made_it(accounts: Accounts) -> None:
    members = await sign_in(accounts, "ann", "bob", "cyd")
    id = draw()
    group = await accounts.gather("u-ann", ["u-bob", "u-cyd", "u-bob"], "G", id)
    assert group is not None
    assert (group.id, group.name, group.is_group) == (id, "G", True)
    assert await accounts.gather("u-ann", ["u-bob", "u-cyd"], "G", id) == group
    overview = await accounts.conversation(id=id)
    assert overview is not None
    assert overview.members == members
    assert await accounts.gather("u-ann", ["u-bob", "u-nobody"], "G", draw()) is None


async def test_conversations_come_latest_first_and_the_own_one_before_all(postgres: PostgresStore) -> None:
    accounts = postgres.accounts
    await sign_in(accounts, "ann", "bob", "cyd")
    first = await accounts.talk("u-ann", "u-bob", draw())
    second = await accounts.talk("u-ann", "u-cyd", draw())
    assert first is not None
    assert second is not None
    later = first.created_at + 60_000
    answers = await postgres.commit(
        [
            send(first.number, "u-bob", content="old", at=later),
            send(first.number, "u-bob", content="new", at=later + 1),
        ]
    )
    own, one, other = await accounts.conversations("u-ann", 10)
    assert [each.conversation.id for each in (one, other)] == [first.id, second.id]
    assert [member.id for member in own.members] == ["u-ann"]
    assert one.conversation.last_message_at == later + 1
    newest = answers[1]
    assert isinstance(newest, Sent)
    assert one.latest == newest.message
    await postgres.commit([delete(first.number, 2, user="u-bob")])
    _, one, _ = await accounts.conversations("u-ann", 10)
    assert one.latest is not None
    assert (one.latest.content, one.conversation.last_message_at) == ("old", later + 1)
    assert len(await accounts.conversations("u-ann", 2)) == 2
    assert await accounts.conversations("u-nobody", 2) == []


async def test_only_members_enter_a_conversation_and_everybody_other_rooms(accounts: Accounts) -> None:
    await sign_in(accounts, "ann", "bob", "cyd")
    conversation = await accounts.talk("u-ann", "u-bob", draw())
    assert conversation is not None
    assert await accounts.may_enter(conversation.id, "u-bob")
    assert not await accounts.may_enter(conversation.id, "u-cyd")
    assert await accounts.may_enter("lobby", "u-cyd")
    assert await accounts.may_enter("lob\0by", "u-cyd")


async def test_names_are_searched_in_any_case_newest_first(accounts: Accounts) -> None:
    await sign_in(accounts, "hannah", "bob", "joann", "ann")
    found = await accounts.search("ANN", "u-bob", 0, 10)
    assert [each.account.id for each in found] == ["u-ann", "u-joann", "u-hannah"]
    assert [each.account.id for each in await accounts.search("", "u-bob", 1, 2)] == ["u-joann", "u-bob"]
    assert await accounts.search("%", "u-bob", 0, 10) == []


async def test_friends_are_found_the_asking_one_first(accounts: Accounts) -> None:
    await sign_in(accounts, "ann", "bob", "cyd")
    for other in ("u-bob", "u-cyd"):
        request, _ = await accounts.request("u-ann", other)
        await accounts.accept(request.id, draw())
    [found] = await accounts.search("ann", "u-cyd", 0, 10)
    assert [friend.id for friend in found.friends] == ["u-cyd", "u-bob"]


async def test_there_is_one_pending_request_between_two(accounts: Accounts) -> None:
    ann, bob = await sign_in(accounts, "ann", "bob")
    request, made = await accounts.request("u-ann", "u-bob")
    assert (made, request.status, request.sender, request.receiver) == (True, "pending", ann, bob)
    assert await accounts.request("u-bob", "u-ann") == (request, False)
    assert await accounts.friend_request(request.id) == request
    assert await accounts.requests("u-ann", 10) == await accounts.requests("u-bob", 10) == [request]
    answers = await at_once(lambda: accounts.request("u-bob", "u-ann"))
    assert {answer[0].id for answer in answers} == {request.id}


async def test_accepting_makes_friends_who_have_a_conversation(accounts: Accounts) -> None:
    await sign_in(accounts, "ann", "bob")
    before = await accounts.talk("u-ann", "u-bob", draw())
    request, _ = await accounts.request("u-ann", "u-bob")
    assert not await accounts.are_friends("u-ann", "u-bob")
    assert await accounts.accept(request.id, draw()) == before
    assert await accounts.accept(request.id, draw()) == before
    assert await accounts.are_friends("u-ann", "u-bob")
    assert await accounts.are_friends("u-bob", "u-ann")
    accepted = await accounts.friend_request(request.id)
    assert accepted is not None
    assert (accepted.status, accepted.updated_at >= request.updated_at) == ("accepted", True)
    assert await accounts.decline(request.id) is None
    assert await accounts.part("u-bob", "u-ann")
    assert not await accounts.are_friends("u-ann", "u-bob")
    assert not await accounts.part("u-bob", "u-ann")


async def test_declined_requests_are_listed_no_more_and_may_be_made_again(accounts: Accounts) -> None:
    await sign_in(accounts, "ann", "bob")
    request, _ = await accounts.request("u-ann", "u-bob")
    declined = await accounts.decline(request.id)
    assert declined is not None
    assert declined.status == "declined"
    assert await accounts.decline(request.id) == declined
    assert await accounts.accept(request.id, draw()) is None
    assert await accounts.requests("u-bob", 10) == []
    again, made = await accounts.request("u-bob", "u-ann")
    assert (made, again.id > request.id) == (True, True)
    assert [each.id for each in await accounts.requests("u-ann", 10)] == [again.id]
    for id in (0, -1, 2**31, 2**80):
        assert await accounts.friend_request(id) is None
