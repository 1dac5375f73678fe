"""Addresses and networks as texts."""

from __future__ import annotations

import pytest

from catfish.net.binds import name_of
from catfish.wire.addresses import Networks, address_of, build_name, canonical, subscriber_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("203.0.113.09", None),
        ("", None),
        ("unknown", None),
    ],
)
def test_addresses_have_one_form(text: str, expected: str | None) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("203.0.113.9", 1), "203.0.113.9"),
        (("::ffff:203.0.113.9", 1, 0, 0), "203.0.113.9"),
        (("2001:db8::1", 1, 0, 0), "2001:db8::1"),
        (("fe80::1%eth0", 1, 0, 2), "fe80::1"),
        ("", "unix"),
        (b"", "unix"),
    ],
)
def test_the_name_of_a_peer_has_its_address(address: object, expected: str) -> None:
    assert address_of(name_of(address)) == expected


@pytest.mark.parametrize("address", ["203.0.113.9", "2001:db8::1"])
def test_a_name_is_made_of_an_address_and_a_port(address: str) -> None:
    name = build_name(address, 1234)
    assert name.endswith(":1234")
    assert address_of(name) == address


@pytest.mark.parametrize(
    ("texts", "address", "within"),
    [
        (("127.0.0.0/8",), "127.1.2.3", True),
        (("127.0.0.0/8",), "::ffff:127.0.0.1", True),
        (("127.0.0.0/8",), "128.0.0.1", False),
        (("127.0.0.0/8",), "::1", False),
        (("2001:db8::/32", "192.0.2.1"), "192.0.2.1", True),
        (("2001:db8::/32", "192.0.2.1"), "2001:db8:9::1", True),
        (("192.0.2.1",), "unix", False),
        (("unix",), "unix", True),
        (("unix",), "192.0.2.1", False),
        (("0.0.0.0/0",), "somebody", False),
        ((), "192.0.2.1", False),
    ],
)
def test_networks_know_who_is_within(texts: tuple[str, ...], address: str, within: bool) -> None:
    assert (address in Networks(texts)) is within
    assert bool(Networks(texts)) is bool(texts)


@pytest.mark.parametrize(
    ("address", "subscriber"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::", "2001:db8:1:2::/64"),
        ("unix", "unix"),
    ],
)
def test_whoever_has_one_address_of_ipv6_has_its_network(address: str, subscriber: str) -> None:
    assert subscriber_of(address) == subscriber
