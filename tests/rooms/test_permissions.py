"""The whole table: every access, everybody, every right; and what stands above the table."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from catfish.errors import ERROR_CODES, Rejected
from catfish.rooms.grants import RIGHTS, Grants
from catfish.rooms.model import Access, Role, RoomKind
from catfish.rooms.permissions import (
    ADMITTED,
    FOREVER,
    GRANT_OF,
    TABLE,
    Facts,
    Right,
    access_of,
    banned_address,
    check,
    kind_and_access,
    outranks,
    refusal,
    until,
)

EVERYBODY = ("server", "owner", "moderator", "member", "invited", "admitted", "none")
# Who may, by access and right, in the words of docs/protocol.md: a letter each, in the order of EVERYBODY.
MAY = {
    Access.PUBLIC: {
        Right.JOIN: "sOMmian", Right.SEE: "sOMmian", Right.READ: "sOMmian", Right.SEND: "sOMmian",
        Right.EMIT: "sOMmian", Right.REPORT: "sOMmian", Right.INVITE: "sOM----", Right.MODERATE: "sOM----",
        Right.APPOINT: "sO-----", Right.CLOSE: "sO-----",
    },
    Access.CODE: {
        Right.JOIN: "sOMmia-", Right.SEE: "sOMmia-", Right.READ: "sOMmia-", Right.SEND: "sOMmia-",
        Right.EMIT: "sOMmia-", Right.REPORT: "sOMmia-", Right.INVITE: "sOM----", Right.MODERATE: "sOM----",
        Right.APPOINT: "sO-----", Right.CLOSE: "sO-----",
    },
    Access.MEMBERS: {
        Right.JOIN: "sOMmi--", Right.SEE: "sOMmi--", Right.READ: "sOMm---", Right.SEND: "sOMm---",
        Right.EMIT: "sOMm---", Right.REPORT: "sOMm---", Right.INVITE: "sOM----", Right.MODERATE: "sOM----",
        Right.APPOINT: "sO-----", Right.CLOSE: "sO-----",
    },
    Access.INVITED: {
        Right.JOIN: "sOMmi--", Right.SEE: "sOMmi--", Right.READ: "sOMm---", Right.SEND: "sOMm---",
        Right.EMIT: "sOMm---", Right.REPORT: "sOMm---", Right.INVITE: "sOMm---", Right.MODERATE: "sOM----",
        Right.APPOINT: "sO-----", Right.CLOSE: "sO-----",
    },
    Access.PAIR: {
        Right.JOIN: "s----a-", Right.SEE: "sO---a-", Right.READ: "sO---a-", Right.SEND: "s----a-",
        Right.EMIT: "s----a-", Right.REPORT: "s----a-", Right.INVITE: "s------", Right.MODERATE: "s------",
        Right.APPOINT: "s------", Right.CLOSE: "sO-----",
    },
}  # fmt: skip
NOW = 1_000_000


def about(who: str, access: Access, **known: Any) -> Facts:
    role = Role(who) if who in {role.value for role in Role} else Role.NONE
    facts = Facts(access, role, admitted=who == "admitted", server=who == "server", room="den", now=NOW)
    return facts._replace(**known)


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("right", Right)
def test_who_may_do_what_in_which_room(access: Access, right: Right) -> None:
    for who, letter in zip(EVERYBODY, MAY[access][right], strict=True):
        refused = refusal(right, about(who, access))
        assert (refused is None) is (letter != "-"), who
        assert refused is None or refused.code == "forbidden"


def test_the_table_has_a_row_for_everybody() -> None:
    for access in Access:
        assert TABLE[access].keys() == {*Role, ADMITTED}


@pytest.mark.parametrize("access", Access)
def test_a_banned_one_may_do_nothing_whoever_it_is_and_servers_everything(access: Access) -> None:
    for who, right in itertools.product(EVERYBODY, Right):
        facts = about(who, access, banned_until=NOW + 5_000, muted_until=FOREVER)
        refused = refusal(right, facts)
        if who == "server":
            assert refused is None
        else:
            assert refused is not None
            assert (refused.code, refused.retry_after_ms) == ("banned", 5_000)
        over = about(who, access, banned_until=NOW)
        assert (refusal(right, over) is None) is (refusal(right, about(who, access)) is None)


@pytest.mark.parametrize("access", Access)
def test_a_muted_one_may_do_everything_but_speak(access: Access) -> None:
    for who, right in itertools.product(EVERYBODY[1:], Right):
        freely = refusal(right, about(who, access))
        refused = refusal(right, about(who, access, muted_until=NOW + 1))
        if right in (Right.SEND, Right.EMIT) and freely is None:
            assert refused is not None
            assert (refused.code, refused.retry_after_ms) == ("muted", 1)
        else:
            assert (refused and refused.code) == (freely and freely.code)


def test_what_lasts_until_it_is_taken_back_says_no_time() -> None:
    for known in ({"banned_until": until(NOW, None)}, {"muted_until": until(NOW, None)}):
        refused = refusal(Right.SEND, about("member", Access.PUBLIC, **known))
        assert refused is not None
        assert refused.retry_after_ms is None
    assert (until(NOW, 5), until(NOW, 10**18)) == (NOW + 5, FOREVER)


@pytest.mark.parametrize("access", Access)
@pytest.mark.parametrize("granted", RIGHTS)
def test_a_token_gives_no_more_than_the_room_and_no_more_than_it_says(access: Access, granted: str) -> None:
    for who, right in itertools.product(EVERYBODY[1:], Right):
        for grants in (Grants({"den": [granted]}), Grants({"*": [granted]})):
            refused = refusal(right, about(who, access, grants=grants))
            if GRANT_OF.get(right) not in (None, granted):
                assert refused is not None
                assert refused.code == "forbidden"
            elif granted != "moderate":
                assert (refused is None) is (refusal(right, about(who, access)) is None)
        elsewhere = about(who, access, grants=Grants({"den": [], "*": [granted]}))
        assert right is Right.REPORT or refusal(right, elsewhere) is not None


def test_a_token_makes_a_moderator_of_its_bearer_where_it_says_so() -> None:
    grants = Grants({"den": ["join", "moderate"]})
    for access in (Access.PUBLIC, Access.CODE, Access.MEMBERS, Access.INVITED):
        for who in ("none", "member", "admitted"):
            facts = about(who, access, grants=grants)
            assert refusal(Right.MODERATE, facts) is refusal(Right.JOIN, facts) is None
            assert refusal(Right.APPOINT, facts) is not None
            assert outranks(facts, Role.MEMBER)
            assert not outranks(facts, Role.MODERATOR)
        assert refusal(Right.MODERATE, about("none", access, grants=grants, room="attic")) is not None


def test_others_stay_out_of_a_conversation_whatever_they_are() -> None:
    for who, right in itertools.product(EVERYBODY[1:], Right):
        refused = refusal(right, about(who, Access.PUBLIC, outsider=True))
        assert refused is not None
        assert refused.code == "forbidden"
    check(Right.READ, about("server", Access.PUBLIC, outsider=True))


def test_moderators_moderate_those_below_them() -> None:
    ranks = [Role.NONE, Role.INVITED, Role.MEMBER, Role.MODERATOR, Role.OWNER]
    for (place, role), (other_place, other) in itertools.product(enumerate(ranks), enumerate(ranks)):
        assert outranks(about(role.value, Access.PUBLIC), other) is (place > other_place)
        assert outranks(about("server", Access.PUBLIC), other)


@pytest.mark.parametrize(
    ("kind", "access", "expected"),
    [
        (None, None, (RoomKind.OPEN, None)),
        (None, Access.PUBLIC, (RoomKind.OPEN, None)),
        (None, Access.CODE, (RoomKind.PRIVATE, None)),
        (None, Access.MEMBERS, (RoomKind.PRIVATE, Access.MEMBERS)),
        (RoomKind.OPEN, Access.PUBLIC, (RoomKind.OPEN, None)),
        (RoomKind.PRIVATE, None, (RoomKind.PRIVATE, None)),
        (RoomKind.PRIVATE, Access.INVITED, (RoomKind.PRIVATE, Access.INVITED)),
        (RoomKind.MATCHED, None, (RoomKind.MATCHED, None)),
        (RoomKind.MATCHED, Access.CODE, (RoomKind.MATCHED, None)),
        (RoomKind.OPEN, Access.CODE, None),
        (RoomKind.OPEN, Access.INVITED, None),
        (RoomKind.PRIVATE, Access.PUBLIC, None),
        (RoomKind.MATCHED, Access.PUBLIC, None),
        (RoomKind.MATCHED, Access.MEMBERS, None),
        (None, Access.PAIR, None),
        (RoomKind.MATCHED, Access.PAIR, None),
    ],
)
def test_kind_and_access_of_a_new_room_agree(
    kind: RoomKind | None, access: Access | None, expected: tuple[RoomKind, Access | None] | None
) -> None:
    if expected is None:
        with pytest.raises(Rejected, match="access: "):
            kind_and_access(kind, access)
    else:
        assert kind_and_access(kind, access) == expected
        assert access_of(expected[0], "abc234", expected[1]) is (access or access_of(expected[0], "abc234", None))


def test_a_matched_room_with_a_code_is_entered_by_it_and_one_without_by_nobody() -> None:
    assert access_of(RoomKind.MATCHED, None, None) is Access.PAIR
    assert access_of(RoomKind.MATCHED, "abc234", None) is Access.CODE


@pytest.mark.parametrize(
    ("address", "banned"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unix", None),
        ("", None),
        (None, None),
    ],
)
def test_an_address_is_banned_with_what_its_user_can_change_at_will(address: str | None, banned: str | None) -> None:
    assert banned_address(address) == banned


def test_every_refusal_has_a_known_code() -> None:
    assert {"banned", "muted", "forbidden", "blocked"} <= ERROR_CODES.keys()
