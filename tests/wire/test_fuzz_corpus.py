"""Seeds in `corpus/`, as they are and mutated: any bytes give events or a failure, never another exception.

The mutations are the same in every run. An input that ever broke something goes into the corpus as a file of its own.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from catfish.wire.http import HttpRefusal, find_head_end, parse_request_head
from catfish.wire.websocket.handshake import accept, is_upgrade
from tests.wire.peer import Outcome, bytewise, cut, parse

CORPUS = Path(__file__).parent / "corpus"
FRAMES = sorted((CORPUS / "frames").glob("*.bin"))
HEADS = sorted((CORPUS / "heads").glob("*.bin"))
MUTANTS = 200
SPICE = (
    b"\x00",
    b"\xff",
    b"\x80",
    b"\x7f",
    b"\r\n",
    b"\n",
    b":",
    b" ",
    b",",
    b";",
    b'"',
    b"\x81\x80",
    b"\xc1",
    b"\x88\x82",
)


def mutate(seed: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Change a few places: flip bits, overwrite, insert, remove, repeat, or splice in a part of another seed."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        place = chance.randint(0, len(data))
        other = chance.choice(others)
        part = slice(place, place + chance.randint(1, 8))
        match chance.randrange(6):
            case 0 if place < len(data):
                data[place] ^= 1 << chance.randrange(8)
            case 1:
                data[part] = chance.randbytes(chance.randint(1, 8))
            case 2:
                data[place:place] = chance.choice(SPICE)
            case 3:
                del data[part]
            case 4:
                data[place:place] = data[part] * chance.randint(1, 3)
            case _:
                start = chance.randint(0, len(other))
                data[place:] = other[start:]
    return bytes(data)


def mutants(path: Path, family: list[Path]) -> list[bytes]:
    seed = path.read_bytes()
    others = [other.read_bytes() for other in family]
    chance = random.Random(path.stem)
    return [seed, *(mutate(seed, others, chance) for _ in range(MUTANTS))]


def outcome_of_head(data: bytes) -> str:
    """The handshake's end, in one word."""
    end = find_head_end(data)
    try:
        head = parse_request_head(data if end < 0 else data[:end])
        upgrade = is_upgrade(head)
        accepted = accept(head, subprotocols=("catfish.v1.json",), deflate=True)
    except HttpRefusal as refusal:
        assert refusal.text
        assert refusal.response().startswith(f"HTTP/1.1 {refusal.status} ".encode())
        return str(refusal.status)
    assert upgrade
    return accepted.response.split(b" ", 2)[1].decode()


def test_there_is_a_corpus() -> None:
    assert len(FRAMES) >= 10
    assert len(HEADS) >= 5


@pytest.mark.parametrize("deflate", [False, True])
@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_mutated_frames_give_events_or_a_failure_however_they_are_cut(path: Path, deflate: bool) -> None:
    for index, data in enumerate(mutants(path, FRAMES)):
        limits = {"deflate": deflate, "message_bytes_max": 10_000, "fragments_max": 8}
        whole = parse([data], **limits)
        for pieces in (bytewise(data), cut(data, index)):
            outcome = parse(pieces, **limits)
            assert outcome.events == whole.events, data
            assert code_of(outcome) == code_of(whole), data
            if not deflate:
                assert outcome == whole, data


def code_of(outcome: Outcome) -> int | None:
    """What does not depend on the cuts even when DEFLATE data is broken."""
    return outcome.failure and outcome.failure[0]


@pytest.mark.parametrize(
    ("name", "deflate", "outcome"),
    [
        (
            "small_messages",
            False,
            Outcome([(1, '["ping",null,1]'), (2, b"\x93\xa4ping\xc0\x01"), (9, b"p"), (10, b""), (1, "")]),
        ),
        ("fragments_and_pings", False, Outcome([(9, b"x"), (1, "κό"), (2, b"z")])),
        ("close_with_reason", False, Outcome([(1, "last"), (8, (1000, "tschüß"))])),
        ("broken_utf8", False, Outcome([(1, "ok")], (1007, "text is not UTF-8"))),
        ("unmasked", False, Outcome([(1, "fine")], (1002, "frame is not masked"))),
        ("announced_too_large", False, Outcome([], (1009, "message is larger than 1048576 bytes"))),
        ("compressed_final_blocks", True, Outcome([(1, "Hello"), (1, "Hello")])),
        ("compressed_fragments", True, Outcome([(9, b""), (1, "é" * 40)])),
        ("compressed_fragments", False, Outcome([], (1002, "reserved bit is set"))),
    ],
)
def test_seeds_reach_what_their_names_say(name: str, deflate: bool, outcome: Outcome) -> None:
    assert parse([(CORPUS / "frames" / f"{name}.bin").read_bytes()], deflate=deflate) == outcome


@pytest.mark.parametrize("path", HEADS, ids=lambda path: path.stem)
def test_mutated_heads_are_accepted_or_refused(path: Path) -> None:
    outcomes = {outcome_of_head(data) for data in mutants(path, HEADS)}
    assert outcomes <= {"101", "400", "405", "426", "505"}


def test_seeds_of_heads_reach_every_answer() -> None:
    assert {path.stem: outcome_of_head(path.read_bytes()) for path in HEADS} == {
        "absolute_target": "426",
        "bare_line_feeds": "400",
        "browser": "101",
        "deflate_offers": "101",
        "folded_and_bare": "400",
        "http2_preface": "505",
        "plain_request": "405",
        "tls_client_hello": "400",
    }
