"""Randomness that can be had again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from table_kit import each_row

from metered_proto.entropy import Entropy


def draws(entropy: Entropy, count: int = 5) -> list[float]:
    return [entropy.uniform(0, 1) for _ in range(count)]


class TestSeeds:
    @each_row("seed", [0, 7, -1, 2**70, "", "seven", "ü", b"", b"\x00\xff"])
    def test_the_same_seed_gives_the_same_numbers(self, seed: int | str | bytes) -> None:
        assert draws(Entropy(seed)) == draws(Entropy(seed))

    def test_other_seeds_give_other_numbers(self) -> None:
        seeds: list[int | str | bytes] = [0, 1, 2, "a", "b", b"\x01", b"\x02"]
        assert len({draws(Entropy(seed))[0] for seed in seeds}) == len(seeds)

    def test_the_numbers_are_the_same_everywhere(self) -> None:
        # A recorded run is only worth something while these stay what they are.
        entropy = Entropy(1).fork("ladder")
        assert entropy.token(4) == "8f6c444e"
        assert entropy.uniform(0.0, 1.0) == 0.7983634635435137


class TestForks:
    def test_the_same_name_gives_the_same_source(self) -> None:
        assert draws(Entropy(1).fork("a")) == draws(Entropy(1).fork("a"))

    def test_other_names_and_other_paths_give_other_sources(self) -> None:
        root = Entropy(1)
        sources = [
            root,
            root.fork("a"),
            root.fork("b"),
            root.fork("a").fork("b"),
            root.fork("b").fork("a"),
            root.fork(""),
        ]
        assert len({draws(source)[0] for source in sources}) == len(sources)

    def test_a_draw_in_one_part_shifts_no_other(self) -> None:
        untouched = Entropy(1)
        expected = draws(untouched.fork("b"))
        busy = Entropy(1)
        draws(busy, 100)
        draws(busy.fork("a"), 100)
        assert draws(busy.fork("b")) == expected

    def test_forking_draws_nothing(self) -> None:
        plain, forked = Entropy(1), Entropy(1)
        forked.fork("a")
        assert draws(plain) == draws(forked)


class TestNumbers:
    @given(st.integers(), st.floats(-1e6, 1e6), st.floats(0, 1e6))
    def test_uniform_stays_between_its_bounds(self, seed: int, low: float, span: float) -> None:
        high = low + span
        assert low <= Entropy(seed).uniform(low, high) <= high

    def test_uniform_is_spread_over_its_range(self) -> None:
        numbers = draws(Entropy("spread"), 1000)
        assert [sum(n / 10 <= x < (n + 1) / 10 for x in numbers) > 50 for n in range(10)] == [True] * 10

    @pytest.mark.parametrize("size", [1, 8, 16])
    def test_a_token_has_two_digits_a_byte(self, size: int) -> None:
        token = Entropy(1).token(size)
        assert len(token) == 2 * size
        assert bytes.fromhex(token).hex() == token

    def test_tokens_differ(self) -> None:
        entropy = Entropy(1)
        assert len({entropy.token() for _ in range(100)}) == 100
