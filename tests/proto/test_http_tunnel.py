"""CONNECT through a proxy: what is asked, and every way a proxy can answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.errors import LocalProtocolError
from metered_proto.http_tunnel import HttpTunnel, TunnelOpen, TunnelRefused

SECRET = "Basic dXNlcjpzM2NyM3Q="
UNREADABLE = TunnelRefused(1006, "the proxy's answer is not HTTP")


def answer(data: bytes, step: int = 1 << 20) -> TunnelOpen | TunnelRefused | None:
    """What comes of a proxy that answers `data`, read in steps; bytes after the outcome count as trailing."""
    tunnel = HttpTunnel("far.example", 443)
    tunnel.open()
    for at in range(0, len(data), step):
        outcome = tunnel.receive(data[at : at + step])
        if isinstance(outcome, TunnelOpen):
            return TunnelOpen(outcome.trailing + data[at + step :])
        if outcome is not None:
            return outcome
    return None


def test_what_is_asked() -> None:
    assert HttpTunnel("far.example", 443).open() == (
        b"CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\r\n"
    )
    assert HttpTunnel("::1", 8080, proxy_authorization=SECRET).open() == (
        b"CONNECT [::1]:8080 HTTP/1.1\r\nHost: [::1]:8080\r\nProxy-Authorization: " + SECRET.encode() + b"\r\n\r\n"
    )
    assert HttpTunnel("[::1]", 8080).open().startswith(b"CONNECT [::1]:8080 ")


@each_row(
    ("said", "outcome"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", TunnelOpen(b"")),
        (b"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\n\r\n", TunnelOpen(b"")),
        (b"HTTP/1.1 204 Fine\r\n\r\nfar end", TunnelOpen(b"far end")),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", TunnelOpen(b"hello")),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"\x16" * 70_000, TunnelOpen(b"\x16" * 70_000)),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", TunnelOpen(b"")),
        (b"HTTP/1.1 407 Who are you\r\nContent-Length: 9\r\n\r\n", TunnelRefused(407, "Who are you")),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", TunnelRefused(302, "Found")),
        (b"HTTP/1.1 503\r\n\r\n", TunnelRefused(503, "")),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 099 Odd\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", UNREADABLE),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000, TunnelRefused(1006, "the proxy's answer is too long")),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 2000, TunnelRefused(1006, "the proxy's answer is too long")),
        (b"HTTP/1.1 200 OK\r\nX: y\r\n", None),
    ],
)
def test_what_a_proxy_answers(said: bytes, outcome: TunnelOpen | TunnelRefused | None) -> None:
    assert answer(said) == outcome
    assert answer(said, 7) == outcome
    if len(said) < 2000:
        assert answer(said, 1) == outcome


def test_a_proxy_that_hangs_up() -> None:
    tunnel = HttpTunnel("far.example", 443)
    tunnel.open()
    assert tunnel.receive(b"HTTP/1.1 20") is None
    assert tunnel.receive(b"") == TunnelRefused(1006, "the connection was lost before the proxy answered")


@given(st.binary(max_size=200))
def test_no_bytes_of_a_proxy_raise(said: bytes) -> None:
    assert isinstance(answer(b"HTTP/1.1 " + said), TunnelOpen | TunnelRefused | None)
    assert isinstance(answer(said), TunnelOpen | TunnelRefused | None)


@each_row("host", ["", "a b", "a\r\nX: y", "a/b", "user@a", "a?b", "a#b", "ü.example"])
def test_hosts_that_cannot_be_asked_for(host: str) -> None:
    with pytest.raises(ValueError, match="the host"):
        HttpTunnel(host, 443)


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_ports_that_do_not_exist(port: int) -> None:
    with pytest.raises(ValueError, match="the port"):
        HttpTunnel("a", port)


@pytest.mark.parametrize("value", [SECRET + "\r\nX: y", SECRET + "ü"])
def test_the_credential_is_shown_nowhere(value: str) -> None:
    with pytest.raises(ValueError, match="characters that HTTP forbids") as caught:
        HttpTunnel("a", 443, proxy_authorization=value)
    assert SECRET not in repr(caught.value)
    assert caught.value.__suppress_context__
    assert SECRET not in repr(HttpTunnel("a", 443, proxy_authorization=SECRET))


def test_calls_out_of_order() -> None:
    tunnel = HttpTunnel("a", 443)
    with pytest.raises(LocalProtocolError):
        tunnel.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    tunnel.open()
    with pytest.raises(LocalProtocolError):
        tunnel.open()
    tunnel.receive(b"HTTP/1.1 200 OK\r\n\r\n")
    with pytest.raises(LocalProtocolError):
        tunnel.receive(b"more")
