"""`metered serve`, as an operator meets it."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import anyio
import pytest
import trustme

from metered_anyio import (
    Disconnected,
    DisconnectedError,
    GoingAway,
    ReconnectOptions,
    SignallingClient,
    SignallingConnectError,
    WsCloseCode,
)
from metered_anyio.cli import main

KEY = "pk_live_demo"


def listening(line: str) -> str:
    """The URL of the one line that says the relay is ready."""
    found = re.fullmatch(r"listening on (wss?://(?:127\.0\.0\.1|\[::1\]):\d+)", line)
    assert found is not None, line
    return found[1]


@pytest.mark.parametrize(
    ("backend", "number"), [("asyncio", signal.SIGTERM), ("trio", signal.SIGINT)], ids=["asyncio", "trio"]
)
def test_a_signal_drains_it(start, backend, number):
    relay = start("serve", "--port", "0", "--key", KEY, "--retry-after", "2.5", "--backend", backend)
    url = listening(relay.out.next())

    async def scenario() -> list[object]:
        async with SignallingClient(api_key=KEY, url=url, reconnect=False) as client:
            with anyio.fail_after(20):
                warnings, ends = client.events(GoingAway), client.events(Disconnected)
                relay.send_signal(number)
                return [await anext(warnings), await anext(ends)]

    told = anyio.run(scenario, backend=backend)
    assert told == [GoingAway(2500), Disconnected(1001, "going_away", will_reconnect=False)]
    assert relay.wait() == 0
    assert relay.out.rest() == []
    assert relay.err.rest() == []


def test_during_the_grace_all_goes_on_and_a_second_signal_ends_it(start):
    relay = start("serve", "--port", "0", "--key", KEY, "--drain-grace", "3600")
    url = listening(relay.out.next())

    async def scenario() -> None:
        async with SignallingClient(api_key=KEY, url=url, reconnect=False) as client:
            with anyio.fail_after(20):
                warnings, ends = client.events(GoingAway), client.events(Disconnected)
                relay.send_signal(signal.SIGTERM)
                await anext(warnings)
                await client.publish("room", "still served")
                with pytest.raises(SignallingConnectError):
                    await SignallingClient(api_key=KEY, url=url).connect()
                relay.send_signal(signal.SIGTERM)
                await anext(ends)

    anyio.run(scenario)
    assert relay.wait() == 0
    assert relay.err.rest() == []


def test_the_limits_are_those_of_the_options(start):
    relay = start(
        *("serve", "--port", "0", "--key", KEY),
        *("--rate", "0.001/3", "--connect-rate", "3", "--max-connections", "1"),
    )
    url = listening(relay.out.next())

    async def refused() -> int:
        with pytest.raises(SignallingConnectError) as caught:
            await SignallingClient(api_key=KEY, url=url).connect()
        return caught.value.close_code

    async def scenario() -> list[int]:
        async with SignallingClient(api_key=KEY, url=url, reconnect=False) as client:
            codes = [await refused(), await refused(), await refused()]
            for number in range(3):
                await client.publish("room", number)
            with pytest.raises(DisconnectedError) as caught:
                await client.publish("room", 3)
        return [*codes, caught.value.code]

    codes = anyio.run(scenario)
    concurrent, rate = WsCloseCode.CONCURRENT_LIMIT, WsCloseCode.MESSAGE_RATE
    assert codes == [concurrent, concurrent, 429, rate]


def test_ipv6_stands_in_brackets(start):
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 on this machine")
    relay = start("serve", "--host", "::1", "--port", "0", "--key", KEY)
    assert listening(relay.out.next()).startswith("ws://[::1]:")
    assert relay.stop() == 0


def test_verbose_logs_to_stderr_and_shows_no_key(start):
    relay = start("serve", "--port", "0", "--key", "pk_live_verysecretindeed", "--verbose")
    url = listening(relay.out.next())

    async def scenario() -> None:
        with pytest.raises(SignallingConnectError):
            await SignallingClient(api_key="pk_live_anotherone", url=url, reconnect=ReconnectOptions()).connect()

    anyio.run(scenario)
    line = relay.err.find("turned away")
    assert "code=4001" in line
    assert relay.stop() == 0
    everything = "\n".join(relay.err.seen + relay.err.rest())
    assert "draining" in everything
    assert "verysecret" not in everything
    assert "anotherone" not in everything


def test_a_taken_port_is_a_failure(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["serve", "--port", str(port), "--key", KEY]) == 1
    assert capsys.readouterr() == ("", f"metered: cannot listen on 127.0.0.1:{port}: Address already in use\n")


def test_without_a_key_it_says_what_to_do(start):
    relay = start("serve")
    assert relay.wait() == 2
    assert relay.out.rest() == []
    (line,) = relay.err.rest()
    assert line.startswith("metered: nobody could come in: give --key")
    assert "METERED_SECRET" in line


WRONG = [
    (["--key", "hunter2hunter2"], "--key: a publishable key must be pk_live_"),
    (["--key", f"{KEY};hunter2hunter2"], "--key: part 1 behind the key must be channels="),
    (["--key", f"{KEY};channels=a;hunter2hunter2=b"], "--key: part 2 behind the key must be channels="),
    (["--key", f"{KEY};channels=a;channels=b"], "--key: channels stands there twice"),
    (["--key", f"{KEY};channels=a,,b"], "--key, channels: an item is empty"),
    (["--key", f"{KEY};channels={'x' * 257}"], "--key, channels: a channel must not be longer than 256 bytes"),
    (["--key", f"{KEY};actions=publish,fly"], "--key, actions: permissions must be among publish"),
    (["--key", f"{KEY};origins=a.example"], "--key, origins: an origin looks like https://app.example"),
    (["--key", KEY, "--key", KEY], "a publishable key is given twice"),
    (["--secret", "hunter2hunter2"], "--secret must be sk_id_…:sk_secret_…"),
    (["--secret", "hunter2:hunter2hunter2"], "--secret cannot be used, the id of a secret key must be sk_id_"),
    (["--secret", "sk_id_a:hunter2"], "--secret cannot be used, the secret of a key must be 16"),
    (["--key", KEY, "sk_id_a:hunter2hunter2"], "Got unexpected extra argument"),
    (["--key", KEY, "--rate", "fast"], "--rate must be RATE/BURST"),
    (["--key", KEY, "--rate", "0/10"], "--rate must be RATE/BURST"),
    (["--key", KEY, "--rate", "10/0"], "--rate must be RATE/BURST"),
    (["--key", KEY, "--rate", "10/"], "--rate must be RATE/BURST"),
    (["--key", KEY, "--connect-rate", "0.5"], "--connect-rate must be a whole number"),
    (["--key", KEY, "--max-connections", "0"], "Invalid value for '--max-connections'"),
    (["--key", KEY, "--port", "65536"], "Invalid value for '--port'"),
    (["--key", KEY, "--drain-grace", "nan"], "--drain-grace must be a number of seconds"),
    (["--key", KEY, "--retry-after", "-1"], "--retry-after must be a number of seconds"),
    (["--key", KEY, "--retry-after", "inf"], "--retry-after must be a number of seconds"),
    (["--key", KEY, "--tls-key", "k.pem"], "--tls-key needs --tls-cert"),
    (["--key", KEY, "--tls-cert", "/nowhere/c.pem"], "--tls-cert or --tls-key cannot be read: No such file"),
    (["--key", KEY, "--tls-cert", __file__], "--tls-cert and --tls-key must be a certificate and its own key"),
    (["--key", KEY, "--backend", "curio"], "Invalid value for '--backend'"),
    (["--key", KEY, "--kye", KEY], "No such option"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options)[:60] for options, _ in WRONG])
def test_wrong_options_are_named_and_no_secret_is_shown(capsys, options, message):
    assert main(["serve", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"metered: {message}")
    assert err.count("\n") == 1
    assert "hunter2" not in err


def test_wrong_settings_of_the_environment_are_named(capsys, monkeypatch):
    monkeypatch.setenv("METERED_KEY", "hunter2")
    assert main(["serve"]) == 2
    monkeypatch.setenv("METERED_SECRET", "hunter2")
    monkeypatch.delenv("METERED_KEY")
    assert main(["serve"]) == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("metered: METERED_KEY: a publishable key must be")
    assert second.startswith("metered: METERED_SECRET must be sk_id_")


def test_an_encrypted_key_is_refused_without_asking_for_its_pass_phrase(capsys, tmp_path):
    from cryptography.hazmat.primitives import serialization

    certificate = trustme.CA().issue_cert("127.0.0.1")
    clear = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    locked = clear.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"hunter2"),
    )
    chain, key = Path(tmp_path, "chain.pem"), Path(tmp_path, "key.pem")
    chain.write_bytes(certificate.cert_chain_pems[0].bytes())
    key.write_bytes(locked)
    assert main(["serve", "--key", KEY, "--tls-cert", str(chain), "--tls-key", str(key)]) == 2
    assert "not encrypted" in capsys.readouterr().err
