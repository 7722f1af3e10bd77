"""The command as a whole."""

from __future__ import annotations

import sys
from importlib.metadata import version

import pytest

from metered_anyio.cli import app, main

COMMANDS = (
    *("serve", "token", "pub", "sub", "send", "request", "respond", "ping", "bench"),
    *("bridge", "play", "record", "devices"),
)


def test_the_version(start):
    command = start("--version")
    assert command.wait() == 0
    assert command.out.rest() == [f"metered {version('metered-sansio')}"]
    assert command.err.rest() == []


def test_without_a_command_it_shows_its_help_and_fails(capsys):
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert err == ""
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help(capsys, command):
    assert main([command, "--help"]) == 0
    assert f"metered {command}" in capsys.readouterr().out


def test_an_unknown_command(capsys):
    assert main(["fly"]) == 2
    assert capsys.readouterr().err.startswith("metered: No such command 'fly'")


def test_without_the_extra_it_says_how_to_get_it(capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "metered_anyio.cli.app")
    monkeypatch.setitem(sys.modules, "typer", None)
    assert main(["--version"]) == 2
    assert capsys.readouterr().err == (
        "metered: the command needs a few more packages: pip install 'metered-sansio[cli]'\n"
    )


def test_another_missing_module_is_not_taken_for_the_extra(monkeypatch):
    monkeypatch.delitem(sys.modules, "metered_anyio.cli.app")
    monkeypatch.setitem(sys.modules, "metered_proto.errors", None)
    with pytest.raises(ModuleNotFoundError, match=r"metered_proto\.errors"):
        main(["--version"])


@pytest.mark.parametrize(
    ("raised", "code", "err"),
    [
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("with pk_live_hunter2\nin it"), 1, "unexpected ZeroDivisionError: with pk_live_*** in it"),
    ],
)
def test_no_traceback_whatever_happens(capsys, monkeypatch, raised, code, err):
    def broken(**_: object) -> None:
        raise raised

    monkeypatch.setattr(app, "app", broken)
    assert main(["pub", "room", "1"]) == code
    assert capsys.readouterr().err == (f"metered: {err}\n" if err else "")


def test_trio_that_is_not_installed(capsys, monkeypatch):
    monkeypatch.setattr("metered_anyio.cli.common.find_spec", lambda name: None)
    assert main(["pub", "room", "1", "--key", "pk_live_x", "--backend", "trio"]) == 2
    assert "pip install 'metered-sansio[trio]'" in capsys.readouterr().err
