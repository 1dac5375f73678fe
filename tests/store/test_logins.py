"""Passwords, refresh tokens and users with tokens, in Postgres."""

from __future__ import annotations

from typing import Any

import pytest

from catfish.rooms.logins import Renewed
from catfish.store.logins import Logins
from catfish.store.postgres import PostgresStore
from tests.store.test_accounts import account, at_once, draw

DAY_S = 86_400.0


@pytest.fixture
def logins(postgres: PostgresStore) -> Logins:
    return postgres.logins


def by_password(who: str) -> Any:
    return account(who, provider="password", oauth_id="")


async def enrol(logins: Logins, who: str) -> None:
    assert await logins.enrol(by_password(who), f"hash of {who}", draw()) is not None


async def test_an_account_with_a_password_is_stored_once_and_talks_with_itself(
    logins: Logins, postgres: PostgresStore
) -> None:
    results = await at_once(lambda: logins.enrol(by_password("ann"), "hash", draw()))
    [stored] = [result for result in results if result is not None]
    assert (stored.id, stored.email, stored.provider) == ("u-ann", "ann@example.test", "password")
    assert stored.created_at > 0
    found = await logins.credentials(email="ann@example.test")
    assert found is not None
    assert (found.account, found.hash) == (stored, "hash")
    assert await logins.credentials(account="u-ann") == found
    assert await logins.credentials(email="nobody@example.test") is None
    [own] = await postgres.accounts.conversations("u-ann", 10)
    assert [member.id for member in own.members] == ["u-ann"]


async def test_an_account_of_a_provider_has_no_password_until_one_is_set(
    logins: Logins, postgres: PostgresStore
) -> None:
    await postgres.accounts.sign_in(account("ann"), draw())
    found = await logins.credentials(email="ann@example.test")
    assert found is not None
    assert found.hash is None
    assert await logins.enrol(by_password("ann"), "hash", draw()) is None
    assert await logins.set_password("u-ann", "first", former=None)
    assert not await logins.set_password("u-ann", "other", former=None)
    assert not await logins.set_password("u-ann", "other", former="wrong")
    assert await logins.set_password("u-ann", "second", former="first")
    found = await logins.credentials(account="u-ann")
    assert found is not None
    assert found.hash == "second"


async def test_who_is_vouched_for_takes_over_an_account_that_somebody_made_with_that_email(
    logins: Logins, postgres: PostgresStore
) -> None:
    await enrol(logins, "ann")
    await logins.begin("token", "family", "u-ann", DAY_S)
    signed_in = await postgres.accounts.sign_in(account("ann", id="u-other"), draw())
    assert (signed_in.id, signed_in.provider, signed_in.oauth_id) == ("u-ann", "google", "oid-ann")
    found = await logins.credentials(account="u-ann")
    assert found is not None
    assert found.hash is None
    assert await logins.renew("token", "next", DAY_S) == Renewed()


async def test_a_refresh_token_is_good_once_and_its_second_use_ends_the_family(logins: Logins) -> None:
    await enrol(logins, "ann")
    await logins.begin("a1", "a", "u-ann", DAY_S)
    await logins.begin("b1", "b", "u-ann", DAY_S)
    for used, following in (("a1", "a2"), ("a2", "a3")):
        renewed = await logins.renew(used, following, DAY_S)
        assert renewed.account is not None
        assert renewed.account.id == "u-ann"
    assert await logins.renew("a1", "stolen", DAY_S) == Renewed(reused=True)
    for ended in ("a1", "a2", "a3", "stolen"):
        assert await logins.renew(ended, "x", DAY_S) == Renewed()
    assert (await logins.renew("b1", "b2", DAY_S)).account is not None


async def test_of_many_who_bring_one_token_at_once_one_gets_the_next_and_the_family_ends(logins: Logins) -> None:
    await enrol(logins, "ann")
    await logins.begin("a1", "a", "u-ann", DAY_S)
    results = await at_once(lambda: logins.renew("a1", f"a2-{draw()}", DAY_S))
    assert len([result for result in results if result.account is not None]) == 1
    assert len([result for result in results if result.reused]) == 1


async def test_the_same_call_again_after_a_lost_answer_is_no_second_use(logins: Logins) -> None:
    await enrol(logins, "ann")
    await logins.begin("a1", "a", "u-ann", DAY_S)
    for _ in range(2):
        assert (await logins.renew("a1", "a2", DAY_S)).account is not None
    assert (await logins.renew("a2", "a3", DAY_S)).account is not None


async def test_tokens_expire_and_are_forgotten(logins: Logins) -> None:
    await enrol(logins, "ann")
    await logins.begin("old", "a", "u-ann", -1.0)
    assert await logins.renew("old", "next", DAY_S) == Renewed()
    assert await logins.end("old") == "u-ann"
    await logins.begin("old", "a", "u-ann", -1.0)
    await logins.begin("new", "b", "u-ann", DAY_S)
    assert await logins.end("old") is None


async def test_a_login_ends_alone_or_all_of_an_account_do(logins: Logins) -> None:
    for who in ("ann", "bob"):
        await enrol(logins, who)
        for family in ("x", "y", "z"):
            await logins.begin(f"{who}-{family}", f"{who}-{family}", f"u-{who}", DAY_S)
    assert await logins.end("ann-x") == "u-ann"
    assert await logins.end("ann-x") is None
    assert (await logins.renew("ann-y", "ann-y2", DAY_S)).account is not None
    assert await logins.end("ann-y2", everywhere=True) == "u-ann"
    assert await logins.renew("ann-z", "n", DAY_S) == Renewed()
    await logins.end_all("u-bob")
    assert await logins.renew("bob-x", "n", DAY_S) == Renewed()


async def test_users_with_tokens_and_accounts_are_registered_guests_are_not(logins: Logins) -> None:
    await enrol(logins, "ann")
    assert await logins.register({"eve", "bob", "u-ann"}) == {"eve", "bob"}
    assert await logins.register({"bob", "joe"}) == {"joe"}
    assert await logins.registered({"u-ann", "eve", "joe", "guest", "'; --"}) == {"u-ann", "eve", "joe"}
    assert await logins.registered(set()) == set()
