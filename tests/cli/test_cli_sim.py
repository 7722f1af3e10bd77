"""`metered sim`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metered_anyio.cli import main
from metered_proto.client.subscriptions import Subscriptions
from metered_proto.replay import Recording, replay
from metered_proto.sim import SCENARIOS, dump, load


def test_some_seeds_of_two_scenarios(capsys):
    assert main(["sim", "--scenario", "pair", "--scenario", "device", "--seeds", "3", "--jobs", "1"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == ""
    assert [line.split()[0] for line in lines[1:4]] == ["pair", "device", "all"]
    assert lines[3].split()[1] == "6"
    assert "steps a second" in lines[4]


def test_several_processes_find_the_same(capsys):
    def rows(jobs):
        assert main(["sim", "--scenario", "glare", "--seeds", "12", "--jobs", jobs, "--json"]) == 0
        return json.loads(capsys.readouterr().out)["scenarios"]

    assert rows("1") == rows("2")


def test_one_seed_as_json(capsys):
    assert main(["sim", "--scenario", "patterns", "--seed", "4", "--json", "--jobs", "1"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["total"]["runs"] == 1
    assert said["scenarios"]["patterns"]["broken"] == []
    assert said["total"]["simulated_hours"] > 0.02


def test_as_long_as_it_is_told(capsys):
    assert main(["sim", "--scenario", "requests", "--for", "0.2s", "--jobs", "1"]) == 0
    assert int(capsys.readouterr().out.splitlines()[-2].split()[1]) >= 10


def test_what_is_later_is_left_out(capsys):
    def faults(*more):
        main(["sim", "--scenario", "device", "--seed", "2", "--json", "--jobs", "1", *more])
        return json.loads(capsys.readouterr().out)["total"]["faults"]

    assert faults("--until", "10s") < faults("--until", "1m") <= faults()


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--scenario", "nope"], "no scenario 'nope'"),
        (["--seed", "1", "--seeds", "2"], "--seed is one seed"),
        (["--for", "1s", "--seeds", "2"], "not both"),
        (["--for", "soon"], "--for must be a time"),
        (["--until", "-1"], "--until must be a time"),
    ],
)
def test_what_makes_no_sense(capsys, arguments, why):
    assert main(["sim", *arguments]) == 2
    assert why in capsys.readouterr().err


@pytest.fixture
def spoilt(monkeypatch):
    """Subscriptions are not restored after a reconnect."""
    monkeypatch.setattr(Subscriptions, "replay", lambda self, now, link: [])


def test_a_broken_promise_is_shown_made_small_and_kept(capsys, tmp_path, spoilt):
    assert main(["sim", "--scenario", "drain", "--seed", "0", "--jobs", "1", "--save", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert "metered sim --scenario drain --seed 0" in out
    assert "subscriptions are there: " in out
    assert "as little as it takes (1 of" in out
    assert err == "metered: 1 runs broke a promise\n"
    small = load((tmp_path / "drain-0.plan.json").read_bytes())
    assert len(small.script) == 1
    kept = sorted(path.name for path in tmp_path.glob("*.jsonl"))
    assert kept == [f"drain-0.{name}.jsonl" for name in ("ann", "bob", "cid", "relay-1", "relay-2")]
    assert replay(Recording.of((tmp_path / "drain-0.ann.jsonl").read_bytes())) is None


def test_what_is_for_people_is_not_said_in_json(capsys, spoilt):
    assert main(["sim", "--scenario", "drain", "--seed", "0", "--jobs", "1", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["total"]["broken"] == [0]


def test_a_plan_that_was_kept(capsys, tmp_path, spoilt):
    file = tmp_path / "x.json"
    file.write_bytes(dump(SCENARIOS["drain"](0)))
    assert main(["sim", "--plan", str(file), "--save", str(tmp_path / "again")]) == 1
    out, err = capsys.readouterr()
    assert "subscriptions are there: " in out
    assert "a promise was broken" in err
    assert (tmp_path / "again" / "drain-0.plan.json").exists()


def test_a_plan_that_keeps_every_promise(capsys, tmp_path):
    file = tmp_path / "x.json"
    file.write_bytes(dump(SCENARIOS["drain"](0)))
    assert main(["sim", "--plan", str(file)]) == 0
    assert "reconnects" in capsys.readouterr().out


def test_files_that_cannot_be_used(capsys, tmp_path, spoilt):
    assert main(["sim", "--plan", str(tmp_path / "no")]) == 1
    (tmp_path / "bad").write_text("{}")
    assert main(["sim", "--plan", str(tmp_path / "bad")]) == 1
    err = capsys.readouterr().err
    assert "cannot read" in err
    assert "is not a plan" in err
    assert (
        main(["sim", "--scenario", "drain", "--seed", "0", "--jobs", "1", "--save", str(Path(tmp_path / "bad"))]) == 1
    )
    assert "cannot write" in capsys.readouterr().err
