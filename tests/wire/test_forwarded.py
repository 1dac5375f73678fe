"""Whom proxies speak for, as a table, and what strangers may not make of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catfish.wire.addresses import Networks
from catfish.wire.forwarded import Hop, find_client, parse_forwarded, parse_node, parse_x_forwarded_for

TRUSTED = Networks(("10.0.0.0/8", "2001:db8:1::/48", "unix"))
ANYTHING = st.text(st.characters(codec="latin-1"), max_size=80)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9 ", "203.0.113.9"),
        ("203.0.113.9:1234", "203.0.113.9"),
        ("203.0.113.9:_hidden", "203.0.113.9"),
        ("2001:db8::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("unknown", None),
        ("_SEVKISEK", None),
        ("unix", None),
        ("", None),
        ("203.0.113", None),
        ("203.0.113.9, 10.0.0.1", None),
        ("[]", None),
    ],
)
def test_an_address_is_read_in_every_form_in_which_proxies_write_it(text: str, address: str | None) -> None:
    assert parse_node(text) == address


@pytest.mark.parametrize(
    ("peer", "field", "client"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9", "203.0.113.9"),  # what a client wrote itself is on the left
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "198.51.100.1, 203.0.113.9, 10.0.0.2, 10.0.0.3", "203.0.113.9"),
        ("unix", "203.0.113.9", "203.0.113.9"),
        ("2001:db8:1::5", "2001:db8:2::9", "2001:db8:2::9"),
        ("10.0.0.1", "10.0.0.9", "10.0.0.9"),  # all are trusted: the first is the client
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # a stranger's word does not count
        ("203.0.113.5", "10.0.0.1", "203.0.113.5"),
    ],
)
def test_the_client_is_the_first_from_the_right_who_is_not_trusted(peer: str, field: str, client: str) -> None:
    assert find_client(peer, parse_x_forwarded_for(field), TRUSTED).address == client


@pytest.mark.parametrize(
    ("value", "hops"),
    [
        ("for=203.0.113.9", [Hop("203.0.113.9")]),
        ('For="[2001:db8:cafe::17]:4711"', [Hop("2001:db8:cafe::17")]),
        ("for=192.0.2.60;proto=https;by=203.0.113.43", [Hop("192.0.2.60", "https")]),
        ("for=192.0.2.43, for=198.51.100.17", [Hop("192.0.2.43"), Hop("198.51.100.17")]),
        ('proto=HTTP; for="192.0.2.43:80" , by=_x', [Hop("192.0.2.43", "http"), Hop(None)]),
        ('for="_gazonk"', [Hop(None)]),
        ("for=unknown", [Hop(None)]),
        ('for="a\\"b"', [Hop(None)]),
        ("", []),
        ('for="192.0.2.43', [Hop(None)]),
        ("for=192.0.2.43,,for=192.0.2.44", [Hop(None)]),
        ("nonsense", [Hop(None)]),
    ],
)
def test_forwarded_is_read_as_rfc_7239_has_it(value: str, hops: list[Hop]) -> None:
    assert parse_forwarded(value) == hops


def test_the_scheme_is_what_the_nearest_proxy_says() -> None:
    hops = parse_x_forwarded_for("203.0.113.9, 10.0.0.2", "https, HTTP")
    assert find_client("10.0.0.1", hops, TRUSTED) == Hop("203.0.113.9", "http")
    assert find_client("203.0.113.5", hops, TRUSTED) == Hop("203.0.113.5", "")
    assert find_client("10.0.0.1", parse_x_forwarded_for("", "https"), TRUSTED) == Hop("10.0.0.1", "https")


@given(ANYTHING, st.sampled_from((parse_x_forwarded_for, parse_forwarded)))
def test_nothing_that_a_client_wrote_changes_who_it_is(text: str, parse: object) -> None:
    if parse is parse_x_forwarded_for:
        hops = parse_x_forwarded_for(f"{text}, 203.0.113.9")
        assert find_client("10.0.0.1", hops, TRUSTED).address == "203.0.113.9"
    else:
        found = find_client("10.0.0.1", parse_forwarded(f"{text}, for=203.0.113.9"), TRUSTED).address
        assert found in ("203.0.113.9", "10.0.0.1"), "the client, or the proxy when nobody can tell"


@given(ANYTHING, ANYTHING)
def test_any_text_gives_hops(addresses: str, schemes: str) -> None:
    for hop in (*parse_x_forwarded_for(addresses, schemes), *parse_forwarded(addresses)):
        assert hop.address is None or parse_node(hop.address) == hop.address
