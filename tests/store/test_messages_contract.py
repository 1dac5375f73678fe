"""Messages, changes to them, history: what both stores promise."""

from __future__ import annotations

from catfish.errors import Rejected
from catfish.rooms.commands import AUTOMATIC_CLIENT_ID, Changed, CloseRoom, MarkRead, Read, Sent
from catfish.rooms.events import MessageDeleted, MessageEdited, MessageReacted, MessageSent
from catfish.rooms.ports import Store
from tests.store.commands import NOW, delete, edit, make_room, perform, react, refused, send


async def test_messages_are_numbered_without_gaps_and_come_back_as_they_were(store: Store) -> None:
    number = await make_room(store)
    data = {"z": 1, "a": [1.5, None, "ü", 2**60], "nested": {"b": True}}
    first = await perform(store, send(number, content="hallö 👋", client_id="c-1", data=data, reply_to=7), Sent)
    message = first.message
    assert (first.revision, first.repeated) == (1, False)
    assert (message.room, message.seq, message.user, message.name) == ("lobby", 1, "ada", "Ada")
    assert (message.content, message.client_id, message.reply_to, message.created_at) == ("hallö 👋", "c-1", 7, NOW)
    assert (message.edited_at, message.deleted_at, message.reactions) == (None, None, None)
    assert message.id > 0
    answers = await store.commit([send(number, "bob"), send(number, "ada"), send(number, "bob")])
    sent = [answer for answer in answers if isinstance(answer, Sent)]
    assert [(answer.message.seq, answer.revision) for answer in sent] == [(2, 2), (3, 3), (4, 4)]
    ids = [message.id, *(answer.message.id for answer in sent)]
    assert ids == sorted(set(ids))
    page = await store.history(number, limit=10)
    assert page.messages == [message, *(answer.message for answer in sent)]
    assert list(page.messages[0].data) == ["z", "a", "nested"]
    record = await store.room(id="lobby")
    assert record is not None
    assert (record.room.seq, record.revision) == (4, 4)


async def test_rooms_are_numbered_independently(store: Store) -> None:
    one, other = await make_room(store, "one"), await make_room(store, "other")
    answers = await store.commit([send(one), send(other), send(one), send(other)])
    assert [answer.message.seq for answer in answers if isinstance(answer, Sent)] == [1, 1, 2, 2]


async def test_a_message_to_no_room_is_refused(store: Store) -> None:
    assert await refused(store, send(987_654_321)) == "no_such_room"


async def test_sending_again_with_the_same_client_id_gives_the_first_message(store: Store) -> None:
    number = await make_room(store)
    first = await perform(store, send(number, content="once", client_id="x"), Sent)
    await store.commit([send(number)])
    again = await perform(store, send(number, content="twice", client_id="x"), Sent)
    assert again == Sent(message=first.message, revision=1, repeated=True)
    other = await perform(store, send(number, "bob", client_id="x"), Sent)
    assert (other.message.seq, other.repeated) == (3, False)
    assert len((await store.history(number, limit=10)).messages) == 3


async def test_a_client_id_counts_once_within_a_batch_too(store: Store) -> None:
    number = await make_room(store)
    batch = [send(number, content=str(place), client_id=f"c{place % 2}") for place in range(6)]
    answers = [answer for answer in await store.commit(batch) if isinstance(answer, Sent)]
    assert [answer.message.content for answer in answers] == ["0", "1", "0", "1", "0", "1"]
    assert [answer.repeated for answer in answers] == [False, False, True, True, True, True]
    mixed = [send(number, client_id="c1"), send(number, content="new", client_id="c9")]
    answers = [answer for answer in await store.commit(mixed) if isinstance(answer, Sent)]
    assert [(answer.message.seq, answer.repeated) for answer in answers] == [(2, True), (3, False)]


async def test_a_repeated_message_shows_what_it_is_now(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number, client_id="x"), edit(number, 1, "better"), react(number, 1)])
    again = await perform(store, send(number, client_id="x"), Sent)
    assert (again.message.content, again.message.reactions, again.repeated) == ("better", {"👍": ["ada"]}, True)


async def test_client_ids_that_the_server_made_are_not_shown(store: Store) -> None:
    number = await make_room(store)
    client_id = f"{AUTOMATIC_CLIENT_ID}session:1"
    first = await perform(store, send(number, client_id=client_id), Sent)
    again = await perform(store, send(number, client_id=client_id), Sent)
    assert (first.message.client_id, again.message.client_id) == (None, None)
    assert (first.repeated, again.repeated) == (False, True)
    assert (await store.history(number, limit=1)).messages[0].client_id is None


async def test_messages_without_a_client_id_are_never_the_same(store: Store) -> None:
    number = await make_room(store)
    answers = await store.commit([send(number, client_id=None), send(number, client_id=None)])
    assert [answer.repeated for answer in answers if isinstance(answer, Sent)] == [False, False]


# Changes


async def test_an_edit_changes_content_and_says_when(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number, data=[1])])
    assert await perform(store, edit(number, 1, "better", at=NOW + 50), Changed) == Changed(revision=2, unchanged=False)
    (message,) = (await store.history(number, limit=1)).messages
    assert (message.content, message.edited_at, message.deleted_at, message.data) == ("better", NOW + 50, None, [1])


async def test_only_its_author_changes_a_message(store: Store) -> None:
    number = await make_room(store, "lobby", "ada", "bob")
    await store.commit([send(number)])
    assert await refused(store, edit(number, 1, "mine", "bob")) == "not_your_message"
    assert await refused(store, delete(number, 1, "bob")) == "not_your_message"
    assert await refused(store, edit(number, 2, "none")) == "no_such_message"
    assert await refused(store, delete(number, 2)) == "no_such_message"
    assert await refused(store, react(number, 2)) == "no_such_message"
    assert await refused(store, react(987_654_321, 1)) == "no_such_message"


async def test_a_deleted_message_keeps_its_place_and_nothing_else(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number, data={"a": 1}), react(number, 1), send(number)])
    assert await perform(store, delete(number, 1, at=NOW + 9), Changed) == Changed(revision=4, unchanged=False)
    assert await perform(store, delete(number, 1), Changed) == Changed(revision=0, unchanged=True)
    first, second = (await store.history(number, limit=5)).messages
    assert (first.seq, first.content, first.data, first.deleted_at, first.reactions) == (1, "", None, NOW + 9, None)
    assert (second.seq, second.deleted_at) == (2, None)
    assert await refused(store, edit(number, 1, "back")) == "no_such_message"
    assert await refused(store, react(number, 1)) == "no_such_message"


async def test_reactions_are_kept_in_the_order_in_which_they_came(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number)])
    steps = [("bob", "🎉", True), ("ada", "👍", True), ("eve", "🎉", True), ("ada", "🎉", True), ("eve", "🎉", False)]
    for place, (user, emoji, on) in enumerate(steps):
        changed = await perform(store, react(number, 1, user, emoji, on), Changed)
        assert changed == Changed(revision=place + 2, unchanged=False)
    assert await perform(store, react(number, 1, "ada", "👍"), Changed) == Changed(revision=0, unchanged=True)
    assert await perform(store, react(number, 1, "zoe", "👍", False), Changed) == Changed(revision=0, unchanged=True)
    (message,) = (await store.history(number, limit=1)).messages
    assert message.reactions == {"🎉": ["bob", "ada"], "👍": ["ada"]}
    assert list(message.reactions) == ["🎉", "👍"]


async def test_a_message_may_be_changed_in_the_batch_that_sends_it(store: Store) -> None:
    number = await make_room(store)
    answers = await store.commit(
        [
            send(number, content="first"),
            edit(number, 1, "second"),
            react(number, 1),
            edit(number, 1, "third"),
            react(number, 1, on=False),
            react(number, 1, "bob"),
            send(number, content="other"),
            react(number, 2),
            delete(number, 2),
            edit(number, 2, "gone"),
        ]
    )
    assert isinstance(answers[0], Sent)
    assert answers[0].message.content == "first"
    assert [answer.revision for answer in answers if isinstance(answer, Changed)] == [2, 3, 4, 5, 6, 8, 9]
    assert isinstance(answers[9], Rejected)
    first, second = (await store.history(number, limit=5)).messages
    assert (first.content, first.reactions) == ("third", {"👍": ["bob"]})
    assert (second.content, second.reactions, second.deleted_at is not None) == ("", None, True)


async def test_a_read_position_moves_forward_and_not_past_the_newest_message(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number) for _ in range(5)])

    async def mark(seq: int, user: str = "ada") -> Read:
        return await perform(store, MarkRead(number=number, user=user, seq=seq), Read)

    assert await mark(3) == Read(seq=3, moved=True)
    assert await mark(2) == Read(seq=3, moved=False)
    assert await mark(3) == Read(seq=3, moved=False)
    assert await mark(99) == Read(seq=5, moved=True)
    assert await mark(99) == Read(seq=5, moved=False)
    assert await mark(1, "bob") == Read(seq=1, moved=True)
    assert await refused(store, MarkRead(number=987_654_321, user="ada", seq=1)) == "no_such_room"
    answers = await store.commit([send(number), MarkRead(number=number, user="ada", seq=6)])
    assert answers[1] == Read(seq=6, moved=True)


# Reading


async def test_a_room_and_a_page_of_it_are_read_together_as_they_are_apart(store: Store) -> None:
    number = await make_room(store)
    await make_room(store, "empty")
    await store.commit([send(number, content=str(place)) for place in range(1, 8)])
    await store.commit([react(number, 6)])
    record = await store.room(id="lobby")
    for before, after in ((None, None), (5, None), (None, 2), (1, None), (None, 7)):
        found = await store.room_history("lobby", before=before, after=after, limit=3)
        assert found == (record, await store.history(number, before=before, after=after, limit=3))
    empty = await store.room_history("empty", limit=3)
    assert empty is not None
    assert (empty[1].messages, empty[1].more) == ([], False)
    await store.commit([CloseRoom(number=number)])
    for nobody in ("lobby", "nowhere", "a\0b", "\ud800"):
        assert await store.room_history(nobody, limit=3) is None


async def test_history_is_read_in_pages_both_ways(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number, content=str(place)) for place in range(1, 11)])

    async def page(before: int | None = None, after: int | None = None, limit: int = 4) -> tuple[list[int], bool]:
        found = await store.history(number, before=before, after=after, limit=limit)
        assert [message.content for message in found.messages] == [str(message.seq) for message in found.messages]
        return [message.seq for message in found.messages], found.more

    assert await page() == ([7, 8, 9, 10], True)
    assert await page(before=7) == ([3, 4, 5, 6], True)
    assert await page(before=3) == ([1, 2], False)
    assert await page(before=5) == ([1, 2, 3, 4], False)
    assert await page(before=1) == ([], False)
    assert await page(before=1000) == ([7, 8, 9, 10], True)
    assert await page(after=0) == ([1, 2, 3, 4], True)
    assert await page(after=6) == ([7, 8, 9, 10], False)
    assert await page(after=8) == ([9, 10], False)
    assert await page(after=10) == ([], False)
    assert await page(limit=10) == ([*range(1, 11)], False)
    assert await page(limit=0) == ([], True)


async def test_what_changed_since_a_message_is_told_once_and_in_order(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number) for _ in range(3)])
    await store.commit([edit(number, 1, "early")])
    await store.commit(
        [send(number), react(number, 3), edit(number, 1, "late"), delete(number, 2), react(number, 3, "bob")]
    )
    await store.commit([send(number), edit(number, 5, "five")])

    async def changed(seq: int, limit: int = 10) -> list[int]:
        return [message.seq for message in await store.changed_since(number, seq, limit)]

    assert await changed(4) == [1, 2, 3]
    assert await changed(3) == [1, 2, 3]
    assert await changed(1) == [1]
    assert await changed(4, 2) == [1, 2]
    assert await changed(5) == [5]
    assert await changed(99) == [5]
    assert await changed(0) == []
    first, second, third = await store.changed_since(number, 4, 10)
    assert (first.content, second.deleted_at is not None, third.reactions) == ("late", True, {"👍": ["ada", "bob"]})


async def test_changes_are_the_events_of_the_room_without_gaps(store: Store) -> None:
    number = await make_room(store)
    await store.commit([send(number, content="one"), send(number, content="two"), edit(number, 1, "1", at=NOW + 7)])
    await store.commit(
        [react(number, 2, "bob", "🎉"), send(number, content="three"), react(number, 2, "bob", "🎉", False)]
    )
    await store.commit([edit(number, 1, "uno"), delete(number, 3, at=NOW + 8), send(number, content="four")])
    events = await store.changes(number, after=0, limit=100)
    assert [event.revision for event in events] == [*range(1, 10)]
    assert {event.room for event in events} == {"lobby"}
    kinds = [type(event) for event in events]
    assert kinds[:4] == [MessageSent, MessageSent, MessageEdited, MessageReacted]
    assert kinds[4:] == [MessageSent, MessageReacted, MessageEdited, MessageDeleted, MessageSent]
    assert isinstance(events[0], MessageSent)
    assert (events[0].message.content, events[0].message.seq) == ("uno", 1)
    assert events[2] == MessageEdited(room="lobby", revision=3, seq=1, user="ada", content="uno", edited_at=NOW + 7)
    assert events[3] == MessageReacted(room="lobby", revision=4, seq=2, user="bob", emoji="🎉", on=True)
    assert isinstance(events[4], MessageSent)
    assert (events[4].message.content, events[4].message.deleted_at) == ("", NOW + 8)
    assert events[5] == MessageReacted(room="lobby", revision=6, seq=2, user="bob", emoji="🎉", on=False)
    assert events[7] == MessageDeleted(room="lobby", revision=8, seq=3, user="ada", deleted_at=NOW + 8)
    for after in range(11):
        for limit in (1, 2, 3, 100):
            assert await store.changes(number, after=after, limit=limit) == events[after : after + limit]
    assert await store.revisions([number]) == {number: 9}
