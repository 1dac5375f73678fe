"""The pure parts of the harness: arguments, frames, what is said, statistics, and what `/proc` tells."""

from __future__ import annotations

import os
import random
import socket
from typing import Any

import pytest

from catfish.errors import SLOW_CONSUMER_BYTES, Rejected
from catfish.load.errors import LoadError, PlanError
from catfish.load.fleet import check_upgrade
from catfish.load.frames import FrameReader, build_client_frame, server_frame_bytes
from catfish.load.plan import PROTOCOLS, SCENARIOS, Target, make_plan, parse_url
from catfish.load.processes import (
    SERVER,
    Stat,
    Trees,
    Usage,
    find_listeners,
    parse_listeners,
    parse_stat,
    spent,
    tree_of,
)
from catfish.load.protocols import Speech, speech_of
from catfish.load.statistics import Figure, Report, difference, per_unit, percentile, ratio, waits
from catfish.wire import native, socketio
from catfish.wire.websocket.frames import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    FrameParser,
    build_close,
    build_frame,
)

# Arguments


def test_every_scenario_has_a_plan_by_default() -> None:
    for scenario, kind in SCENARIOS.items():
        urls = ["ws://127.0.0.1:1", "ws://127.0.0.1:2"] if scenario == "cross" else []
        plan = make_plan(scenario, urls=urls)
        assert (plan.n, plan.seconds, plan.size, plan.protocol) == (kind.n, 4.0, 100, "native")
        assert all(target.host == "127.0.0.1" for target in plan.targets)


TWO = ("ws://127.0.0.1:1", "ws://127.0.0.1:2")


@pytest.mark.parametrize(
    ("scenario", "options", "problem"),
    [
        ("nothing", {}, "there is no scenario 'nothing'"),
        ("echo", {"protocol": "http"}, "--protocol is 'http'"),
        ("echo", {"n": 0}, "--n is 0; for echo it must be 1 to 20000"),
        ("echo", {"n": 20_001}, "--n is 20001"),
        ("fan", {"n": 1}, "must be 2 to"),
        ("pair", {"n": 3}, "a multiple of 2"),
        ("chat", {"n": 15}, "a multiple of 10"),
        ("cross", {"urls": TWO, "n": 5_010}, "10 to 5000, a multiple of 10"),
        ("echo", {"seconds": 0}, "--seconds is 0"),
        ("echo", {"seconds": 601}, "--seconds is 601"),
        ("echo", {"seconds": float("nan")}, "--seconds is nan"),
        ("echo", {"size": 0}, "--size is 0"),
        ("echo", {"size": 60_001}, "1 to 60000 bytes"),
        ("chat", {"size": 5_001}, "1 to 5000 bytes"),
        ("echo", {"pids": [0]}, "--pid must be"),
        ("echo", {"urls": TWO}, "echo takes one --url"),
        ("cross", {}, "cross needs two --url"),
        ("cross", {"urls": (TWO[0], TWO[0])}, "cross needs two --url"),
        ("cross", {"urls": TWO, "pids": [1]}, "cross takes two --pid"),
        ("cross", {"urls": TWO, "rate": 0}, "--rate is 0"),
        ("cross", {"urls": TWO, "protocol": "socketio"}, "native protocol only"),
        ("echo", {"urls": ["wss://chat.example"]}, "TLS is not measured here"),
    ],
)
def test_arguments_that_make_no_measurement_are_named(scenario: str, options: dict[str, Any], problem: str) -> None:
    with pytest.raises(PlanError) as raised:
        make_plan(scenario, **options)
    assert problem in str(raised.value)


def test_urls_say_host_port_and_perhaps_a_path() -> None:
    assert parse_url("ws://127.0.0.1:8080") == Target("127.0.0.1", 8080, "")
    assert parse_url("http://localhost/") == Target("localhost", 80, "")
    assert parse_url("ws://[::1]:9/deep/ws") == Target("::1", 9, "/deep/ws")
    assert parse_url("ws://[::1]:9").authority == "[::1]:9"


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://x", "ws://", "ws://x:port", "ws://x:70000", "ws://x/?a=b", "ws://x/a b\r\n"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(PlanError, match="--url"):
        parse_url(url)


# Frames


@pytest.mark.parametrize("size", [0, 1, 3, 125, 126, 65_535, 65_536])
def test_a_server_reads_the_frames_of_the_client(size: int) -> None:
    parser = FrameParser(message_bytes_max=1 << 20, fragments_max=1)
    payload = random.Random(size).randbytes(size)
    assert parser.receive(build_client_frame(BINARY, payload)) == [(BINARY, payload)]
    assert len(build_frame(TEXT, payload)) == server_frame_bytes(size)


def test_a_frame_can_have_a_mask_of_ones_choice() -> None:
    assert build_client_frame(TEXT, b"Hello", b"\x37\xfa\x21\x3d").hex() == "818537fa213d7f9f4d5158"  # RFC 6455, 5.7


def test_frames_are_read_in_whatever_pieces_they_come() -> None:
    payloads = [b"", b"a", b"b" * 125, b"c" * 126, b"d" * 70_000, b"e"]
    stream = b"".join(build_frame(TEXT, payload) + build_frame(PING, b"p") for payload in payloads)
    dice = random.Random(7)
    for cuts in ([len(stream)], [1] * 500 + [len(stream)], [dice.randint(1, 5_000) for _ in range(200)]):
        reader, found, position = FrameReader(), [], 0
        for cut in cuts:
            found += reader.receive(stream[position : position + cut])
            position += cut
        found += reader.receive(stream[position:])
        assert found == payloads
        assert reader.empty


def test_an_unfinished_frame_is_noticed() -> None:
    reader = FrameReader()
    assert reader.receive(build_frame(TEXT, b"half")[:3]) == []
    assert not reader.empty


def test_a_close_and_a_frame_that_nobody_asked_for_end_the_measurement() -> None:
    with pytest.raises(LoadError, match="4001 slow consumer: too many bytes"):
        FrameReader().receive(build_close(SLOW_CONSUMER_BYTES))
    with pytest.raises(LoadError, match="no code"):
        FrameReader().receive(build_frame(CLOSE, b""))
    with pytest.raises(LoadError, match="compressed"):
        FrameReader().receive(build_frame(TEXT, b"x", compressed=True))


# What is said


def messages_of(frames: bytes) -> list[Any]:
    return FrameParser(message_bytes_max=1 << 20, fragments_max=1).receive(frames)


@pytest.mark.parametrize("codec", [native.JSON, native.MSGPACK])
def test_native_requests_and_the_beginnings_of_their_answers(codec: native.Codec) -> None:
    speech = speech_of("native" if codec is native.JSON else "native-msgpack")
    asked = [speech.ping(3), speech.enter("r", "u"), speech.enter_chat("r", "u"), speech.send_chat("r", "u", 2)]
    for request in asked:
        *_, (opcode, message) = messages_of(request.frame)
        assert opcode == codec.opcode
        id = codec.decode_request(message).id
        assert id is not None
        answers: list[Any] = [{"seq": 1}, "text", [], 5]
        for data in answers:
            reply = codec.encode_reply(id, data)
            assert reply.startswith(request.awaited)
            assert not reply.startswith(request.refused)
        assert codec.encode_refusal(id, Rejected("busy", "no", 1)).startswith(request.refused)
        assert not codec.encode_reply(id + 1, {}).startswith(request.awaited)
        assert not codec.encode_event("chat:message", {}).startswith(request.awaited)
    ((_, message),) = messages_of(speech.emit("r", "u", 4))
    assert codec.decode_request(message).id is None
    assert messages_of(speech.keep_alive) == [(PONG, b"")]
    assert (speech.create_chat(), speech.greeting, speech.subprotocol) == (None, (), codec.name)


def test_socketio_requests_and_the_beginnings_of_their_answers() -> None:
    speech = speech_of("socketio")
    create = speech.create_chat()
    assert create is not None
    for request in (speech.ping(3), create, speech.enter_chat("c", "u"), speech.send_chat("c", "u", 2)):
        ((_, message),) = messages_of(request.frame)
        packet = socketio.Decoder().receive(message[1:])
        assert packet is not None
        assert packet.id is not None
        ack = b"4" + socketio.build_ack([{"ok": True}], packet.id)[0]
        assert ack.startswith(request.awaited)
        assert not ack.startswith(request.refused)
        refusal = b"4" + socketio.build_ack([{"ok": False, "error": "no"}], packet.id)[0]
        assert refusal.startswith(request.refused)
    assert [message for _, message in messages_of(speech.enter("r", "u").frame)] == [
        '42["join_room",{"userId":"u","username":"u","roomId":"r"}]',
        '421["ping","x"]',
    ]
    assert speech.read_code(b'433[{"ok":true,"room":{"id":1,"code":"abc123"}}]') == "abc123"
    with pytest.raises(ValueError, match="no code"):
        speech.read_code(b"433[]")
    assert messages_of(speech.keep_alive) == [(TEXT, "3")]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_frames_of_all_users_have_one_length(protocol: str) -> None:
    speech: Speech = speech_of(protocol)
    assert len({len(speech.emit("load-1", f"user-{number:05d}", 100)) for number in (0, 9, 19_999)}) == 1


# The answer to the handshake


def test_an_answer_that_is_no_upgrade_is_told() -> None:
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nsec-websocket-protocol: catfish.v1.json"
    check_upgrade(head, "catfish.v1.json")
    with pytest.raises(LoadError, match="subprotocol None, not"):
        check_upgrade("HTTP/1.1 101 OK\r\nUpgrade: websocket", "catfish.v1.json")
    with pytest.raises(LoadError, match="404 Not Found"):
        check_upgrade("HTTP/1.1 404 Not Found", None)
    with pytest.raises(LoadError, match="refuses"):
        check_upgrade("", None)


# Statistics


def test_percentiles_are_values_that_were_seen() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, each) for each in (0, 1, 50, 99, 100)] == [1.0, 1.0, 50.0, 99.0, 100.0]
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 50) is None


def test_what_was_not_measured_stays_unknown() -> None:
    assert (per_unit(None, 5), per_unit(1.0, 0), per_unit(6.0, 3)) == (None, None, 2.0)
    assert (ratio(None, 1.0), ratio(1.0, None), ratio(1.0, 0.0), ratio(3.0, 2.0)) == (None, None, None, 1.5)
    assert (difference(None, 1.0), difference(1.0, None), difference(3.0, 1.0)) == (None, None, 2.0)
    assert [figure.value for figure in waits("ack", "acknowledged after", [])] == [None, None]
    assert [figure.value for figure in waits("ack", "acknowledged after", [0.002, 0.004])] == [2.0, 4.0]


def test_a_report_becomes_json() -> None:
    report = Report("echo", "native", 1, 0.5, 100, (Figure("a_us", "a", None, "us"), Figure("b", "b", 2.0, "")), ("n",))
    assert report.as_json()["figures"] == {"a_us": None, "b": 2.0}


# Processes


def test_the_line_of_a_process_may_have_anything_in_its_name() -> None:
    line = "12 (a) b (c) S 7 12 12 0 -1 4194560 1 2 3 4 30 12 5 6 20 0 4 0 100 999 250 1844674 1 1"
    assert parse_stat(line) == Stat("a) b (c", 7, 42, 11, 250)


def test_a_tree_is_a_process_and_all_below() -> None:
    stats = {pid: Stat("p", parent, 0, 0, 0) for pid, parent in {1: 0, 5: 1, 6: 5, 7: 6, 8: 1}.items()}
    assert tree_of([5], stats) == {5, 6, 7}
    assert tree_of([7, 8, 99], stats) == {7, 8}


def test_cpu_time_between_two_readings_is_told_by_name() -> None:
    before = Usage({SERVER: 1.0}, 0.0)
    assert spent(before, Usage({SERVER: 3.0, "postgres": 0.5}, 0.0)) == {SERVER: 2.0, "postgres": 0.5}
    assert spent(None, before) == spent(before, None) == {}


def test_listeners_are_found_in_the_kernels_table() -> None:
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"
        "   1: 0100007F:1F90 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n"
        "   2: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1\n"
    )
    assert parse_listeners(table, 8080) == {"4711"}
    assert parse_listeners("", 8080) == set()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="this platform has no /proc")
def test_this_process_is_found_by_its_port_and_has_figures() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert find_listeners(listener.getsockname()[1]) == (os.getpid(),)
    usage = Trees([os.getpid()]).read()
    assert usage is not None
    assert usage.cpu_s[SERVER] > 0
    assert usage.resident_kb > 0
    assert Trees([]).read() is None
