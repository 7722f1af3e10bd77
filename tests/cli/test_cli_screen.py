"""What others wrote does nothing on a screen but stand there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metered_anyio.cli.screen import as_json, complain, printable, without_secrets, word, write_cells


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain Ünïcode ☃ 🚀", "plain Ünïcode ☃ 🚀"),
        ("\x1b[2J", "\\u001b[2J"),
        ("\x9b31m", "\\u009b31m"),
        ("a\nb\r\tc", "a\\u000ab\\u000d\\u0009c"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\U000e0001", "\\udb40\\udc01"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_a_terminal_could_obey_is_escaped(text, shown):
    assert printable(text) == shown


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner), max_leaves=5))
def test_json_keeps_its_meaning(value):
    line = as_json(value)
    assert line.isprintable()
    assert json.loads(line) == value


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30))
def test_a_name_is_one_word_or_in_quotes(name):
    shown = word(name)
    assert shown == name or json.loads(shown) == name
    assert shown.startswith('"') or " " not in shown


def test_cells_on_a_pipe_are_plain(capsys):
    write_cells(("[bold]x[/bold]", "red"), (":rocket: \x1b[31m", ""))
    assert capsys.readouterr().out == "[bold]x[/bold] :rocket: \\u001b[31m\n"


def test_cells_on_a_terminal_have_the_styles_we_gave_and_no_others(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    write_cells(("[bold]x[/bold]", "green"), ("\x1b]0;title\x07 " + "long " * 50, ""))
    out = capsys.readouterr().out
    assert out == "\x1b[32m[bold]x[/bold]\x1b[0m \\u001b]0;title\\u0007 " + "long " * 50 + "\n"


@pytest.mark.parametrize(
    "secret", ["pk_live_hunter2", "sk_secret_hunter2", "sk_id_a:hunter2", "eyJh.hunter2.c", "wss://u:hunter2@h"]
)
def test_a_text_without_its_secrets(secret):
    text = without_secrets(f"it is ({secret} )")
    assert text.startswith("it is (")
    assert text.endswith(")")
    assert "hunter2" not in text


def test_a_complaint_is_one_line(capsys):
    complain("two\nlines, \x1b[31mred")
    assert capsys.readouterr() == ("", "metered: two lines, \\u001b[31mred\n")
