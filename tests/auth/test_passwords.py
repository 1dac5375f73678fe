"""Hashing passwords: few at a time, and nothing to learn from how long it takes."""

from __future__ import annotations

import threading
from typing import Any

import argon2
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from catfish.auth.passwords import CHARS_MAX, Passwords, normalise
from catfish.config import Settings
from catfish.errors import Rejected

CHEAP: dict[str, Any] = {"argon2_memory_kib": 64, "argon2_passes": 1, "argon2_lanes": 1}


async def test_a_hash_is_argon2id_with_the_parameters_of_the_settings() -> None:
    hash = await Passwords(Settings()).hash("correct horse")
    parameters = argon2.extract_parameters(hash)
    assert parameters.type is argon2.Type.ID
    assert (parameters.memory_cost, parameters.time_cost, parameters.parallelism) == (65_536, 3, 1)


async def test_the_right_password_is_told_from_others() -> None:
    passwords = Passwords(Settings(**CHEAP))
    hash = await passwords.hash("correct horse")
    assert await passwords.verify(hash, "correct horse")
    for wrong in ("correct hors", "correct horse ", "", "Correct horse"):
        assert not await passwords.verify(hash, wrong)
    for nothing in (None, "", "not a hash"):
        assert not await passwords.verify(nothing, "correct horse")
    assert not await passwords.verify(None, "nobody's")


async def test_for_nobody_the_same_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    passwords = Passwords(Settings(**CHEAP))
    verified: list[argon2.Parameters] = []
    verify = argon2.PasswordHasher.verify

    def counted(self: argon2.PasswordHasher, hash: str, password: str) -> bool:
        verified.append(argon2.extract_parameters(hash))
        return verify(self, hash, password)

    monkeypatch.setattr(argon2.PasswordHasher, "verify", counted)
    await passwords.verify(await passwords.hash("correct horse"), "wrong")
    await passwords.verify(None, "wrong")
    assert len(verified) == 2
    assert verified[0] == verified[1]


async def test_a_hash_with_other_parameters_is_outdated() -> None:
    hash = await Passwords(Settings(**CHEAP)).hash("correct horse")
    assert not Passwords(Settings(**CHEAP)).is_outdated(hash)
    stronger = Passwords(Settings(**{**CHEAP, "argon2_passes": 2}))
    assert stronger.is_outdated(hash)
    assert await stronger.verify(hash, "correct horse")


def test_a_password_is_the_same_however_its_letters_are_composed() -> None:
    assert normalise("cafe\u0301") == normalise("caf\u00e9")


@pytest.mark.parametrize(
    ("password", "words"),
    [("short", "8 are the least"), ("x" * (CHARS_MAX + 1), "more than 1024"), ("\ud800" * 8, "half a surrogate")],
)
def test_what_cannot_be_a_new_password_is_told_why(password: str, words: str) -> None:
    with pytest.raises(Rejected, match=words) as refused:
        Passwords(Settings()).check_new(password)
    assert refused.value.code == "bad_request"
    assert password not in refused.value.message


async def test_of_a_flood_few_are_hashed_some_wait_and_the_others_come_back() -> None:
    passwords = Passwords(Settings(**CHEAP, password_hashes_max=2, password_waiting_max=3))
    hold, two_at_work = threading.Event(), threading.Event()
    at_work: list[int] = []
    most = 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal most
        with lock:
            at_work.append(1)
            most = max(most, len(at_work))
            if most == 2:
                two_at_work.set()
        hold.wait(10)
        with lock:
            at_work.pop()

    async with trio.open_nursery() as flood:
        for _ in range(5):
            flood.start_soon(passwords._run, work)
        await wait_all_tasks_blocked()
        try:
            assert await trio.to_thread.run_sync(two_at_work.wait, 10)
            with pytest.raises(Rejected) as refused:
                await passwords.hash("correct horse")
        finally:
            hold.set()
    assert (refused.value.code, refused.value.retry_after_ms) == ("busy", 1_000)
    assert (most, passwords.busy) == (2, 1)
    assert await passwords.hash("correct horse")
