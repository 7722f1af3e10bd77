"""When an offer that could not be made is made again."""

from __future__ import annotations

from metered_proto.machine import SECOND
from metered_proto.rtc.retries import OfferRetries


def test_each_try_waits_longer_until_there_are_none_left() -> None:
    retries = OfferRetries((0.5, 1))
    assert not retries.holds_back("wish")
    for now, at in ((0, SECOND // 2), (SECOND, 2 * SECOND)):
        assert retries.failed(now, "wish")
        assert retries.at == at
        assert retries.holds_back("wish")
        retries.due()
        assert (retries.at, retries.holds_back("wish")) == (None, False)
    assert not retries.failed(5 * SECOND, "wish")
    assert (retries.at, retries.holds_back("wish")) == (None, True)


def test_another_wish_has_its_own() -> None:
    retries = OfferRetries((1,))
    retries.failed(0, "wish")
    retries.failed(0, "wish")
    assert not retries.holds_back("another")
    assert retries.failed(7, "another")
    assert retries.at == SECOND + 7
    assert not retries.holds_back("wish")


def test_what_is_forgotten_begins_anew() -> None:
    retries = OfferRetries((1,))
    retries.failed(0, "wish")
    retries.failed(0, "wish")
    retries.forget()
    assert not retries.holds_back("wish")
    assert retries.failed(0, "wish")


def test_without_delays_there_is_one_try() -> None:
    retries = OfferRetries(())
    assert not retries.failed(0, "wish")
    assert retries.holds_back("wish")
