"""ICE servers: what is taken, what is bad, and that one bad entry drops the lot."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.events import IceServer
from metered_proto.wire.ice_servers import (
    MAX_ICE_CREDENTIAL,
    MAX_ICE_SERVERS,
    MAX_ICE_URL,
    parse_ice_servers,
)

STUN = {"urls": "stun:stun.example.org"}
TURN = {"urls": "turn:turn.example.org", "username": "u", "credential": "c"}


def test_a_list_as_the_service_sends_it() -> None:
    servers = parse_ice_servers(
        [
            {"urls": "stun:stun.relay.metered.ca:80"},
            {
                "urls": ["turn:a.example:80?transport=tcp", "turns:[2001:db8::1]:443?transport=tcp"],
                "username": "user",
                "credential": "secret",
                "credentialType": "password",
            },
        ]
    )
    assert servers == (
        IceServer(("stun:stun.relay.metered.ca:80",)),
        IceServer(("turn:a.example:80?transport=tcp", "turns:[2001:db8::1]:443?transport=tcp"), "user", "secret"),
    )
    assert "secret" not in repr(servers)


@each_row(
    "entry",
    [
        {"urls": "STUN:host"},
        {"urls": "stuns:host:65535"},
        {"urls": "stun:127.0.0.1:0"},
        {"urls": "stun:a_b-c.example"},
        {"urls": ("stun:" + "h" * MAX_ICE_URL)[:MAX_ICE_URL]},
        {"urls": ["stun:h"] * MAX_ICE_SERVERS},
        {"urls": "stun:h", "username": None, "credential": None},
        {"urls": "stun:h", "username": "u"},
        {"urls": "turns:h", "username": "u" * MAX_ICE_CREDENTIAL, "credential": "c" * MAX_ICE_CREDENTIAL},
        {"urls": "turn:h", "username": "ü", "credential": "ç", "unknown": object()},
    ],
)
def test_a_good_entry(entry: dict[str, Any]) -> None:
    assert len(parse_ice_servers([entry])) == 1


@each_row(
    "entry",
    [
        None,
        "stun:h",
        [],
        {},
        {"url": "stun:h"},
        {"urls": None},
        {"urls": 7},
        {"urls": []},
        {"urls": [None]},
        {"urls": [["stun:h"]]},
        {"urls": ["stun:h", "http://h"]},
        {"urls": ["stun:h"] * (MAX_ICE_SERVERS + 1)},
        {"urls": ""},
        {"urls": "stun:"},
        {"urls": "stun"},
        {"urls": "http://h"},
        {"urls": "stun://h"},
        {"urls": "xstun:h"},
        {"urls": "stun:h "},
        {"urls": "stun:h\n"},
        {"urls": "stun:h:"},
        {"urls": "stun:h:65536"},
        {"urls": "stun:h:99999999"},
        {"urls": "stun:h:８０"},
        {"urls": "stun:user:pass@h"},
        {"urls": "stun:höst"},
        {"urls": "stun:[::1"},
        {"urls": "stun:h?transport=<udp>"},
        {"urls": ("stun:" + "h" * MAX_ICE_URL)[: MAX_ICE_URL + 1]},
        {"urls": "stun:h", "username": 7},
        {"urls": "stun:h", "credential": {}},
        {"urls": "stun:h", "username": "u" * (MAX_ICE_CREDENTIAL + 1)},
        {"urls": "stun:h", "credential": "c" * (MAX_ICE_CREDENTIAL + 1)},
        {"urls": "turn:h"},
        {"urls": "turn:h", "username": "u"},
        {"urls": "turns:h", "credential": "c"},
        {"urls": "turn:h", "username": "", "credential": "c"},
        {"urls": "TURN:h", "username": "u", "credential": None},
        {"urls": ["stun:h", "turn:h"]},
    ],
)
def test_a_bad_entry_drops_the_lot(entry: Any) -> None:
    assert parse_ice_servers([STUN, TURN]) != ()
    assert parse_ice_servers([STUN, entry, TURN]) == ()


@each_row("value", [None, {}, STUN, "stun:h", 7, [], [STUN] * (MAX_ICE_SERVERS + 1)])
def test_what_is_no_list_of_them(value: Any) -> None:
    assert parse_ice_servers(value) == ()


def test_as_many_as_are_allowed() -> None:
    assert len(parse_ice_servers([STUN] * MAX_ICE_SERVERS)) == MAX_ICE_SERVERS


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["stun:h", "turn:h"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["urls", "username", "credential"]) | st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JUNK | st.lists(JUNK, max_size=3))
def test_anything_is_read_or_dropped(value: Any) -> None:
    for server in parse_ice_servers(value):
        assert server.urls
        for url in server.urls:
            assert url.partition(":")[0].lower() in ("stun", "stuns", "turn", "turns")
        if any(url.startswith("turn") for url in server.urls):
            assert server.username
            assert server.credential
