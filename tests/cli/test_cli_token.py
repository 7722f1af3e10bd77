"""`metered token`."""

from __future__ import annotations

import json
import time

import pytest

from metered_anyio.cli import main
from metered_proto.wire.tokens import verify

ID, KEY_SECRET = "sk_id_demo", "sk_secret_0123456789abcdef"
SECRET = f"{ID}:{KEY_SECRET}"


def claims(token: str):
    return verify(token, {ID: KEY_SECRET}, time.time())


def test_a_token_alone(capsys, monkeypatch):
    monkeypatch.setenv("METERED_SECRET", SECRET)
    before = int(time.time())
    assert main(["token", "--peer-id", "bob"]) == 0
    out, err = capsys.readouterr()
    said = claims(out.removesuffix("\n"))
    assert err == ""
    assert (said.key_id, said.peer_id, said.channels, said.permissions) == (ID, "bob", None, None)
    assert before + 3600 <= said.expires_at <= time.time() + 3600


def test_a_token_with_everything(capsys, monkeypatch):
    monkeypatch.setenv("METERED_SECRET", "sk_id_other:sk_secret_of_the_environment")
    options = {
        "--peer-id": "bob",
        "--secret": SECRET,
        "--channels": "fleet/**, room-*",
        "--permissions": "send,publish",
        "--expires-in": "60",
        "--metadata": '{"iceServers": []}',
        "--peer-metadata": '{"name": "Bob"}',
    }
    assert main(["token", "--json", *(word for pair in options.items() for word in pair)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer) == {"token", "expiresAt"}
    said = claims(answer["token"])
    assert said.expires_at == answer["expiresAt"]
    assert said.channels == ("fleet/**", "room-*")
    assert said.permissions == ("publish", "send")
    assert said.metadata == {"iceServers": []}
    assert said.peer_metadata == {"name": "Bob"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Missing option '--peer-id'"),
        (["--peer-id", "bob"], "a secret key is needed"),
        (["--peer-id", "bob", "--secret", "sk_id_a_hunter2"], "--secret must be sk_id_…:sk_secret_…"),
        (["--peer-id", "bob", "--secret", "sk_id_a:hunter2"], "--secret cannot be used, the secret"),
        (["--peer-id", "bo\nb", "--secret", SECRET], "a peer id must be 1 to 128 printable"),
        (["--peer-id", "bob", "--secret", SECRET, "--channels", ","], "--channels: an item is empty"),
        (["--peer-id", "bob", "--secret", SECRET, "--permissions", "fly"], "permissions must be among"),
        (["--peer-id", "bob", "--secret", SECRET, "--expires-in", "86401"], "expires_in must be between"),
        (["--peer-id", "bob", "--secret", SECRET, "--expires-in", "soon"], "Invalid value for '--expires-in'"),
        (["--peer-id", "bob", "--secret", SECRET, "--metadata", "[hunter2]"], "--metadata must be a JSON object"),
        (["--peer-id", "bob", "--secret", SECRET, "--peer-metadata", "7"], "--peer-metadata must be a JSON object"),
        (
            ["--peer-id", "bob", "--secret", SECRET, "--peer-metadata", f'{{"a": "{"hunter2" * 600}"}}'],
            "peerMetadata must be at most 4096 bytes",
        ),
    ],
)
def test_wrong_options(capsys, options, message):
    assert main(["token", *options]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"metered: {message}")
    assert err.count("\n") == 1
    assert "hunter2" not in err
    assert KEY_SECRET not in err
