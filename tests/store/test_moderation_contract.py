"""Roles, invitations, mutes, bans, blocks, reports: what both stores promise."""

from __future__ import annotations

import pytest

from catfish.errors import Rejected
from catfish.rooms.commands import Changed, Command, Joined, Left, Matched, RoomRecord, Sent
from catfish.rooms.grants import Grants
from catfish.rooms.model import Access, Role, RoomKind
from catfish.rooms.moderation import Actor, Muted, NewReport, Removed, RoleSet, SetRole, Unbanned
from catfish.rooms.permissions import FOREVER
from catfish.rooms.ports import Store
from tests.store.commands import (
    NOW,
    ban,
    create,
    delete,
    edit,
    invite,
    join,
    kick,
    leave,
    make_room,
    match,
    mute,
    perform,
    react,
    refused,
    rematch,
    send,
    set_role,
    unban,
)

HOUR_MS = 3_600_000


async def make(store: Store, access: Access | None, user: str = "ada", code: str = "abc234") -> int:
    """A private room of `user`; its number."""
    command = create("den", user, kind=RoomKind.PRIVATE, access=access, code=code)
    return (await perform(store, command, RoomRecord)).number


async def users(store: Store, number: int) -> list[str]:
    return [member.user for member in await store.members(number, 50)]


# Access


async def test_a_room_shows_whom_it_admits(store: Store) -> None:
    number = await make(store, Access.INVITED)
    record = await store.room(id="den")
    assert record is not None
    assert (record.number, record.room.access) == (number, Access.INVITED)
    assert (await perform(store, join("lobby", "ada"), Joined)).record.room.access is Access.PUBLIC
    assert (await perform(store, match("ada"), Matched)).record.room.access is Access.PAIR


@pytest.mark.parametrize("access", [Access.MEMBERS, Access.INVITED])
async def test_only_who_was_let_in_enters_also_with_the_code(store: Store, access: Access) -> None:
    number = await make(store, access)
    assert await refused(store, join("den", "bob")) == "forbidden"
    assert await refused(store, join(None, "bob", code="abc234")) == "forbidden"
    assert await refused(store, send(number, "bob")) == "forbidden"
    assert (await perform(store, join("den", "ada"), Joined)).first
    assert (await perform(store, invite(number, "ada", "bob"), RoleSet)).role is Role.INVITED
    assert await refused(store, send(number, "bob")) == "forbidden"
    assert (await perform(store, join("den", "bob"), Joined)).first
    await perform(store, send(number, "bob"), Sent)
    await perform(store, leave(number, "bob"), Left)
    assert (await perform(store, join(None, "bob", code="ABC234"), Joined)).first
    [bob] = (await store.moderation.standings(number, "", 10)).standings
    assert (bob.user, bob.role) == ("bob", Role.MEMBER)
    # An invitation by a member is worth something where members invite.
    answer = await perform(store, invite(number, "bob", "eve"), (Rejected if access is Access.MEMBERS else RoleSet))
    assert not isinstance(answer, Rejected) or answer.code == "forbidden"


async def test_a_role_admits_and_taking_it_back_removes(store: Store) -> None:
    number = await make(store, Access.MEMBERS)
    assert (await perform(store, set_role(number, "ada", "bob", Role.MEMBER), RoleSet)).changed
    assert not (await perform(store, set_role(number, "ada", "bob", Role.MEMBER), RoleSet)).changed
    joined = await perform(store, join("den", "bob", "i1"), Joined)
    await perform(store, join("den", "bob", "i2"), Joined)
    gone = (await perform(store, set_role(number, "ada", "bob", Role.NONE), RoleSet)).removed
    assert [(each.user, each.name, each.stamp > joined.stamp) for each in gone] == [("bob", "Bob", True)]
    assert await users(store, number) == []
    assert await refused(store, join("den", "bob")) == "forbidden"
    assert await refused(store, send(number, "bob")) == "forbidden"


async def test_who_loses_its_role_stays_where_others_may_be_too(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    await perform(store, set_role(number, "ada", "bob", Role.MODERATOR), RoleSet)
    assert (await perform(store, set_role(number, "ada", "bob", Role.NONE), RoleSet)).removed == ()
    assert await users(store, number) == ["ada", "bob"]


async def test_a_matched_room_with_a_code_is_for_the_two_who_come_by_it(store: Store) -> None:
    command = create("duo", kind=RoomKind.MATCHED, code="duo234", capacity=2)
    made = await perform(store, command, RoomRecord)
    assert made.room.access is Access.CODE
    assert await refused(store, join("duo", "bob")) == "forbidden"
    first = await perform(store, join(None, "bob", code="duo234"), Joined)
    assert (first.record.room.members_count, first.record.room.capacity) == (1, 2)
    # Nobody who seeks a stranger gets in there.
    assert (await perform(store, match("eve"), Matched)).peer is None
    await perform(store, rematch(made.number, "bob"), type(None))
    second = await perform(store, join(None, "ada", code="duo234", members=True), Joined)
    assert second.members is not None
    assert [member.user for member in second.members] == ["bob", "ada"]
    assert await refused(store, join(None, "cyd", code="duo234")) == "room_full"
    await perform(store, leave(made.number, "bob"), Left)
    await perform(store, leave(made.number, "ada"), Left)
    record = await store.room(code="duo234")
    assert record is not None
    assert record.room.members_count == 0
    assert (await perform(store, join("duo", "ada"), Joined)).first  # its creator needs no code


# Roles


async def test_only_the_owner_says_who_is_what(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob", "cyd")
    assert await refused(store, set_role(number, "bob", "cyd", Role.MODERATOR)) == "forbidden"
    await perform(store, set_role(number, "ada", "bob", Role.MODERATOR), RoleSet)
    assert await refused(store, set_role(number, "bob", "cyd", Role.MODERATOR)) == "forbidden"
    assert await refused(store, set_role(number, "ada", "ada", Role.MEMBER)) == "forbidden"
    assert await refused(store, set_role(987_654, "ada", "bob", Role.MEMBER)) == "no_such_room"


async def test_moderators_moderate_members_and_not_each_other(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob", "cyd", "dan")
    for moderator in ("bob", "cyd"):
        await perform(store, set_role(number, "ada", moderator, Role.MODERATOR), RoleSet)
    assert await refused(store, kick(number, "dan", "cyd")) == "forbidden"
    assert await refused(store, kick(number, "bob", "cyd")) == "forbidden"
    assert await refused(store, ban(number, "bob", "ada")) == "forbidden"
    assert await refused(store, mute(number, "bob", "bob")) == "forbidden"
    await perform(store, kick(number, "bob", "dan"), Removed)
    await perform(store, kick(number, "ada", "cyd"), Removed)
    await perform(store, kick(number, "server", "ada"), Removed)
    assert await users(store, number) == ["bob"]


async def test_a_token_can_make_a_moderator_and_can_keep_the_owner_from_it(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob", "cyd")
    moderates = Actor(user="cyd", grants=Grants({"lobby": ["moderate"]}))
    command = kick(number, "", "bob")
    command.by = moderates
    await perform(store, command, Removed)
    command = kick(number, "", "cyd")
    command.by = Actor(user="ada", grants=Grants({"lobby": ["join"]}))
    assert await refused(store, command) == "forbidden"
    only = Grants({"*": ["join"]})
    assert (await perform(store, join("lobby", "dan", grants=only), Joined)).first
    assert await refused(store, join("lobby", "eve", grants=Grants({"den": ["join"]}))) == "forbidden"


# Removal


async def test_who_is_kicked_is_out_on_every_instance_and_may_come_back(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    joined = await perform(store, join("lobby", "bob", "i2"), Joined)
    answer = await perform(store, kick(number, "ada", "bob"), Removed)
    assert (answer.reason, [each.user for each in answer.removed]) == ("kicked", ["bob"])
    assert await users(store, number) == ["ada"]
    assert await refused(store, kick(number, "ada", "bob")) == "no_such_member"
    [removal] = await store.moderation.removals([number, 987_654], 0)
    assert (removal.number, removal.user, removal.reason) == (number, "bob", "kicked")
    assert removal.stamp == answer.removed[0].stamp > joined.stamp
    assert await store.moderation.removals([number], removal.stamp) == []
    # An instance that has not heard of it cannot bring it back.
    assert await refused(store, join("lobby", "bob", "i2", restores=joined.stamp)) == "kicked"
    again = await perform(store, join("lobby", "bob", "i2"), Joined)
    assert (again.first, again.returning, again.record.room.members_count) == (True, True, 2)
    assert (await perform(store, join("lobby", "bob", "i2", restores=again.stamp), Joined)).first is False


async def test_who_is_banned_is_out_and_stays_out_until_it_is_unbanned(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    joined = await perform(store, join("lobby", "bob", "i2"), Joined)
    answer = await perform(store, ban(number, "ada", "bob"), Removed)
    assert (answer.reason, [each.user for each in answer.removed], answer.until) == ("banned", ["bob"], FOREVER)
    assert await users(store, number) == ["ada"]
    for command in (
        join("lobby", "bob"),
        join("lobby", "bob", "i2", restores=joined.stamp),
        send(number, "bob"),
    ):
        assert await refused(store, command) == "banned"
    assert (await perform(store, unban(number, "ada", "bob"), Unbanned)).changed
    assert not (await perform(store, unban(number, "ada", "bob"), Unbanned)).changed
    assert (await perform(store, join("lobby", "bob"), Joined)).first


async def test_a_ban_says_when_it_ends(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    await perform(store, ban(number, "ada", "bob", HOUR_MS), Removed)
    answer = await perform(store, join("lobby", "bob"), Rejected)
    assert answer.code == "banned"
    assert answer.retry_after_ms is not None
    assert 0 < answer.retry_after_ms <= HOUR_MS


async def test_somebody_who_is_not_there_is_banned_beforehand(store: Store) -> None:
    number = await make_room(store, "lobby", "ada")
    assert (await perform(store, ban(number, "ada", "bob"), Removed)).removed == ()
    assert await refused(store, join("lobby", "bob")) == "banned"


async def test_with_an_address_everybody_from_there_is_out_but_those_who_moderate(store: Store) -> None:
    number = await make_room(store, "lobby", "ada")
    for user, address in (("ada", "10.0.0.1"), ("bob", "10.0.0.1"), ("cyd", "10.0.0.1"), ("dan", "10.0.0.2")):
        await perform(store, join("lobby", user, address=address), Joined)
    await perform(store, join("lobby", "mod", address="10.0.0.1"), Joined)
    await perform(store, set_role(number, "ada", "mod", Role.MODERATOR), RoleSet)
    answer = await perform(store, ban(number, "ada", "bob", address=True), Removed)
    assert sorted(each.user for each in answer.removed) == ["bob", "cyd"]
    assert sorted(await users(store, number)) == ["ada", "dan", "mod"]
    assert await refused(store, join("lobby", "bob", address="10.0.0.9")) == "banned"
    assert await refused(store, join("lobby", "new", address="10.0.0.1")) == "banned"
    assert not (await perform(store, join("lobby", "mod", address="10.0.0.1"), Joined)).first
    assert (await perform(store, join("lobby", "cyd", address="10.0.0.3"), Joined)).first
    await perform(store, unban(number, "ada", "bob"), Unbanned)
    assert (await perform(store, join("lobby", "new", address="10.0.0.1"), Joined)).first


async def test_the_commands_of_one_batch_take_effect_in_their_order(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    batch: list[Command] = [send(number, "bob"), ban(number, "ada", "bob"), send(number, "bob"), join("lobby", "bob")]
    batch += [unban(number, "ada", "bob"), join("lobby", "bob"), send(number, "bob")]
    codes = [answer.code if isinstance(answer, Rejected) else "" for answer in await store.commit(batch)]
    assert codes == ["", "", "banned", "banned", "", "", ""]
    assert [message.seq for message in (await store.history(number, limit=10)).messages] == [1, 2]


# Mutes


async def test_who_is_muted_says_nothing_and_is_told_for_how_long(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    await perform(store, send(number, "bob"), Sent)
    assert (await perform(store, mute(number, "ada", "bob", HOUR_MS), Muted)).changed
    for command in (send(number, "bob"), edit(number, 1, "other", "bob"), react(number, 1, "bob")):
        answer = await perform(store, command, Rejected)
        assert (answer.code, answer.retry_after_ms is not None) == ("muted", True)
        assert answer.retry_after_ms is not None
        assert 0 < answer.retry_after_ms <= HOUR_MS
    joined = await perform(store, join("lobby", "bob", "i2"), Joined)
    [until] = (await store.moderation.mutes([number, 987_654]))[number].values()
    assert joined.muted_until == until > 0
    await perform(store, send(number, "ada"), Sent)
    await perform(store, delete(number, 1, "bob"), Changed)
    assert (await perform(store, mute(number, "ada", "bob", 0), Muted)).until == 0
    assert await store.moderation.mutes([number]) == {}
    await perform(store, send(number, "bob"), Sent)


async def test_a_server_speaks_for_whomever_it_wants(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    await perform(store, mute(number, "ada", "bob"), Muted)
    await perform(store, send(number, "bob", server=True), Sent)


async def test_a_message_that_was_stored_is_answered_again_whatever_happened_to_its_author(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    first = await perform(store, send(number, "bob", "x", "c"), Sent)
    await perform(store, ban(number, "ada", "bob"), Removed)
    again = await perform(store, send(number, "bob", "x", "c"), Sent)
    assert (again.repeated, again.message.seq) == (True, first.message.seq)


async def test_who_moderates_deletes_what_others_wrote(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob", "cyd")
    await perform(store, send(number, "bob"), Sent)
    assert await refused(store, delete(number, 1, "cyd")) == "not_your_message"
    await perform(store, delete(number, 1, "ada"), Changed)
    assert await refused(store, edit(number, 1, "x", "ada")) == "no_such_message"
    await perform(store, send(number, "bob"), Sent)
    await perform(store, set_role(number, "ada", "cyd", Role.MODERATOR), RoleSet)
    await perform(store, delete(number, 2, "cyd"), Changed)


# Matching


async def test_who_blocked_and_who_was_blocked_are_not_matched(store: Store) -> None:
    assert await store.moderation.block("ada", "bob", True)
    assert not await store.moderation.block("ada", "bob", True)
    ada = await perform(store, match("ada"), Matched)
    assert ada.apart == ("bob",)
    bob = await perform(store, match("bob"), Matched)
    assert (bob.peer, bob.apart) == (None, ("ada",))
    await perform(store, rematch(ada.record.number, "ada"), type(None))
    eve = await perform(store, match("eve"), Matched)
    assert eve.peer is not None
    assert eve.peer.user == "ada"
    assert await store.moderation.block("ada", "bob", False)
    await perform(store, leave(ada.record.number, "eve"), Left)
    again = await perform(store, rematch(ada.record.number, "ada"), Matched)
    assert again.peer is not None
    assert again.peer.user == "bob"


async def test_two_who_met_do_not_meet_again_before_the_pause_is_over(store: Store) -> None:
    await perform(store, match("ada", pause_ms=HOUR_MS), Matched)
    number = (await perform(store, match("bob"), Matched)).record.number
    await perform(store, leave(number, "bob"), Left)
    # One who does not mind waits for the other's pause all the same.
    assert (await perform(store, match("bob"), Matched)).peer is None
    eve = await perform(store, match("eve"), Matched)
    assert eve.peer is not None
    assert eve.peer.user == "ada"


async def test_without_a_pause_two_meet_again_at_once(store: Store) -> None:
    await perform(store, match("ada"), Matched)
    number = (await perform(store, match("bob"), Matched)).record.number
    await perform(store, leave(number, "bob"), Left)
    assert (await perform(store, match("bob"), Matched)).record.number == number


async def test_nobody_waits_while_another_waits_whom_it_may_meet(store: Store) -> None:
    batch: list[Command] = [match("ada", pause_ms=HOUR_MS), match("bob", pause_ms=HOUR_MS)]
    number = next(answer.record.number for answer in await store.commit(batch) if isinstance(answer, Matched))
    batch = [
        leave(number, "ada"),
        match("ada", pause_ms=HOUR_MS),
        match("cyd", pause_ms=HOUR_MS),
        match("dan", pause_ms=HOUR_MS),
    ]
    answers = await store.commit(batch)
    peers = [answer.peer and answer.peer.user for answer in answers if isinstance(answer, Matched)]
    # bob waits again, and waits no longer than ada.
    assert peers == [None, "bob", "ada"]


async def test_users_who_wait_are_moved_together_only_when_they_may_meet(store: Store) -> None:
    numbers = []
    for one, other in (("ada", "bob"), ("cyd", "dan")):
        answers = await store.commit([match(one, pause_ms=HOUR_MS), match(other, pause_ms=HOUR_MS)])
        numbers += [answer.record.number for answer in answers if isinstance(answer, Matched)][:1]
    await perform(store, leave(numbers[0], "bob"), Left)
    await perform(store, leave(numbers[1], "dan"), Left)
    moved = await perform(store, rematch(numbers[0], "ada"), Matched)
    assert moved.peer is not None
    assert moved.peer.user == "cyd"
    await perform(store, leave(numbers[1], "cyd"), Left)
    cyd = await perform(store, match("cyd", pause_ms=HOUR_MS), Matched)
    assert cyd.peer is None
    await perform(store, rematch(cyd.record.number, "cyd"), type(None))


# Blocks, standings, reports


async def test_blocks_are_listed_for_who_made_them(store: Store) -> None:
    for other in ("cyd", "bob"):
        await store.moderation.block("ada", other, True)
    await store.moderation.block("dan", "ada", True)
    assert await store.moderation.blocked("ada", 10) == ["bob", "cyd"]
    assert await store.moderation.blocked("ada", 1) == ["bob"]
    apart = await store.moderation.apart(["ada", "bob", "eve"])
    assert apart == {"ada": {"bob", "cyd", "dan"}, "bob": {"ada"}}
    assert (await perform(store, join("lobby", "ada"), Joined)).apart == ("bob", "cyd", "dan")


async def test_what_people_are_to_a_room_comes_in_pages(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    await perform(store, set_role(number, "ada", "bob", Role.MODERATOR), RoleSet)
    await perform(store, mute(number, "ada", "cyd", HOUR_MS), Muted)
    await perform(store, ban(number, "ada", "dan"), Removed)
    await perform(store, kick(number, "server", "ada"), Removed)
    page = await store.moderation.standings(number, "", 2)
    assert ([each.user for each in page.standings], page.more) == (["bob", "cyd"], True)
    page = await store.moderation.standings(number, "cyd", 2)
    [dan] = page.standings
    assert (dan.user, dan.banned_until, dan.role, page.more) == ("dan", FOREVER, Role.NONE, False)
    seen = await store.moderation.seen(number, "bob")
    assert (seen.present, seen.standing.role) == (True, Role.MODERATOR)
    seen = await store.moderation.seen(number, "nobody")
    assert (seen.present, seen.standing.role, seen.standing.banned_until) == (False, Role.NONE, 0)


async def test_a_report_keeps_what_was_said_as_it_was(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    for text in ("one", "two", "three"):
        await perform(store, send(number, "bob", text, data={"n": 1}), Sent)
    new = NewReport(number=number, room="lobby", by="ada", user="bob", seq=None, reason="rude")
    first = await store.moderation.report(new, 2)
    new.seq = 1
    second = await store.moderation.report(new, 2)
    await perform(store, delete(number, 3, "bob"), Changed)
    page = await store.moderation.reports(below=None, limit=1, handled=False)
    assert ([report.id for report in page.reports], page.more) == ([second], True)
    [report] = (await store.moderation.reports(below=second, limit=5, handled=False)).reports
    assert [message.content for message in report.messages] == ["two", "three"]
    assert (report.id, report.room, report.number, report.by, report.user) == (first, "lobby", number, "ada", "bob")
    assert (report.reason, report.messages[0].data, report.messages[0].created_at) == ("rude", {"n": 1}, NOW)
    assert [message.content for message in page.reports[0].messages] == ["one"]
    assert await store.moderation.handle(first)
    assert not await store.moderation.handle(987_654)
    left = (await store.moderation.reports(below=None, limit=5, handled=False)).reports
    assert [report.id for report in left] == [second]
    both = (await store.moderation.reports(below=None, limit=5, handled=True)).reports
    assert [(report.id, report.handled_at is not None) for report in both] == [(second, False), (first, True)]


async def test_nobody_moderates_a_room_of_two_strangers_but_a_server(store: Store) -> None:
    await perform(store, match("ada"), Matched)
    number = (await perform(store, match("bob"), Matched)).record.number
    for command in (kick(number, "ada", "bob"), ban(number, "ada", "bob"), mute(number, "ada", "bob")):
        assert await refused(store, command) == "forbidden"
    assert await refused(store, SetRole(number=number, by=Actor(user="ada"), user="bob", role=Role.MODERATOR)) == (
        "forbidden"
    )
    await perform(store, kick(number, "server", "bob"), Removed)
    eve = await perform(store, match("eve"), Matched)
    assert eve.peer is not None
    assert (eve.record.number, eve.peer.user) == (number, "ada")
