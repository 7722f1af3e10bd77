"""A recording runs through the code of today, and says where that does otherwise."""

from __future__ import annotations

from runs_kit import ALL_SECRETS, RUNS
from table_kit import each_row

from metered_proto.replay import replay


class TestRuns:
    @each_row("name", sorted(RUNS))
    def test_a_run_is_replayed(self, name: str) -> None:
        done = RUNS[name]()
        divergence = replay(done.recording)
        assert divergence is None, str(divergence)
        assert len(list(done.recording.steps())) == done.recorder.steps > 5

    @each_row("name", sorted(RUNS))
    def test_no_secret_is_in_it(self, name: str) -> None:
        text = RUNS[name]().data.decode()
        flat = text.replace("\\", "")
        for secret in ALL_SECRETS:
            assert secret not in text
            assert secret.replace("\\", "") not in flat

    @each_row("name", sorted(RUNS))
    def test_the_same_run_makes_the_same_text(self, name: str) -> None:
        assert RUNS[name]().data == RUNS[name]().data
