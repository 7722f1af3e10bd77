"""`metered replay`, `metered explain` and `metered serve --record`, as processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from metered_proto.client import ClientSession, Connect, Publish
from metered_proto.entropy import Entropy
from metered_proto.facts import Asked, LinkDown, LinkUp, Received
from metered_proto.replay import ClientPlan, Recorder
from metered_proto.settings import ClientSettings

KEY = "pk_live_of_these_tests"


def metered(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metered_anyio.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1"},
    )


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    settings = ClientSettings(api_key=KEY)
    path = tmp_path / "client.jsonl"
    with path.open("wb") as file:
        machine = ClientSession(settings, Entropy("x"))
        recorder = Recorder(machine, file.write, plan=ClientPlan(settings, "x"), key=b"k")
        recorder.handle(0, Asked(1, Connect()))
        recorder.handle(1_000_000, LinkUp(1))
        recorder.handle(2_000_000, Received(1, ['{"type":"welcome","peerId":"me"}']))
        recorder.handle(3_000_000, Asked(2, Publish.of("a", 1)))
        recorder.handle(4_000_000, LinkDown(1, 1006))
        assert recorder.deadline is not None
        recorder.flush()
    return path


def changed(recording: Path) -> Path:
    path = recording.with_name("changed.jsonl")
    path.write_bytes(recording.read_bytes().replace(b'"requestId":"2"', b'"requestId":"two"'))
    return path


class TestReplay:
    def test_the_same(self, recording: Path) -> None:
        done = metered("replay", recording)
        assert (done.returncode, done.stdout, done.stderr) == (0, "the same in 5 steps, 4.000 s\n", "")

    @pytest.mark.parametrize("until", ["3", "2s", "2.5s", "2000ms"])
    def test_until(self, recording: Path, until: str) -> None:
        assert metered("replay", recording, "--until", until).stdout == "the same in 3 steps, 2.000 s\n"

    def test_another(self, recording: Path) -> None:
        done = metered("replay", changed(recording))
        assert done.returncode == 3
        assert done.stdout.startswith("step 4 differs, at 3.000000 (line 5)\n")
        assert '"requestId":"two"' in done.stdout
        done = metered("replay", changed(recording), "--no-diff")
        assert (done.returncode, done.stdout) == (3, "step 4 differs, at 3.000000\n")

    def test_json(self, recording: Path) -> None:
        found = json.loads(metered("replay", "--json", recording).stdout)
        assert (found["steps"], found["divergence"], found["machine"]) == (5, None, "ClientPlan")
        found = json.loads(metered("replay", "--json", changed(recording)).stdout)
        assert found["divergence"]["step"] == 4
        assert found["divergence"]["fact"].startswith("Asked(")

    def test_a_page(self, recording: Path, tmp_path: Path) -> None:
        out = tmp_path / "page.html"
        assert metered("replay", changed(recording), "--export-html", out).returncode == 3
        text = out.read_text()
        assert "Today&#x27;s code" in text or "Today's code does otherwise at step 4" in text
        assert KEY not in text
        assert "http://" not in text
        assert "https://" not in text

    def test_what_cannot_be_read(self, recording: Path, tmp_path: Path) -> None:
        (tmp_path / "bad").write_bytes(b"nothing\n")
        for path, code in ((tmp_path / "none", 2), (tmp_path / "bad", 1), (tmp_path, 2)):
            done = metered("replay", path)
            assert (done.returncode, done.stdout) == (code, "")
            assert done.stderr.startswith("metered: ")
        (tmp_path / "later").write_bytes(recording.read_bytes() + b"nothing\n")
        assert metered("replay", tmp_path / "later").returncode == 1
        assert metered("explain", tmp_path / "later").returncode == 1
        assert metered("replay", recording, "--until", "soon").returncode == 2
        assert metered("replay", recording, "--export-html", tmp_path / "no" / "page").returncode == 1

    def test_one_that_is_cut_off(self, recording: Path) -> None:
        recording.write_bytes(recording.read_bytes()[:-5])
        done = metered("replay", recording)
        assert (done.returncode, done.stdout) == (0, "the same in 4 steps, 3.000 s\n")
        assert "cut off" in done.stderr


class TestExplain:
    def test_why(self, recording: Path) -> None:
        done = metered("explain", recording)
        assert done.returncode == 0, done.stderr
        assert "the connection is lost" in done.stdout
        assert "rung 1 of the ladder" in done.stdout
        assert "publish a on link 1" in done.stdout
        assert KEY not in done.stdout

    def test_a_part_of_it(self, recording: Path) -> None:
        done = metered("explain", recording, "--since", "3s", "--until", "4", "--last", "1", "--json")
        found = json.loads(done.stdout)
        assert [entry["what"] for entry in found["entries"]] == ["publish a on link 1"]
        assert [cause["what"] for cause in found["causes"]] == ["link 1 is opened"]

    def test_a_page(self, recording: Path, tmp_path: Path) -> None:
        assert metered("explain", recording, "--export-html", tmp_path / "page.html").returncode == 0
        assert "publish a on link 1" in (tmp_path / "page.html").read_text()


class TestServe:
    def test_a_relay_that_records(self, tmp_path: Path) -> None:
        directory = tmp_path / "recordings"
        command = [sys.executable, "-m", "metered_anyio.cli", "serve", "--port", "0", "--key", KEY]
        with subprocess.Popen([*command, "--record", str(directory)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            done = metered("pub", "--url", url, "--key", KEY, "a", "1")
            assert done.returncode == 0, done.stderr
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        (path,) = directory.iterdir()
        assert path.name.startswith("relay-")
        done = metered("replay", path)
        assert done.returncode == 0, done.stdout
        assert KEY not in path.read_text()

    def test_a_directory_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        assert metered("serve", "--key", KEY, "--record", tmp_path / "file" / "x").returncode == 2
