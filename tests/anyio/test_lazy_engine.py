"""`LazyEngine`: made when it is needed, with everything that was wanted of it before, in order."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from adapter_kit import until
from room_kit import ScriptedEngine, ScriptedTrack

from metered_anyio import NoopLogger, WebRtcMissingError, lazy_engine
from metered_anyio.backend import current_backend
from metered_anyio.encoding import Encoding
from metered_anyio.lazy_engine import LazyEngine
from metered_anyio.logger import ContainedLogger
from metered_proto.rtc.words import CloseConnection, CountReceived, MakeOffer, OpenConnection

pytestmark = pytest.mark.anyio


class ScriptedPump:
    """What a lazy engine wants of a pump."""

    def __init__(self) -> None:
        self.backend = current_backend()
        self.spawned = 0

    def spawn(self, run: Callable[[], Any]) -> None:
        self.spawned += 1
        self.backend.spawn(run)


class Imports:
    """Importing takes until `finish`, and then works, or does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loaded: set[str] = set()
        self.may_finish = threading.Event()
        self.problem: Exception | None = None
        monkeypatch.setattr(lazy_engine, "sys", self)
        monkeypatch.setattr(lazy_engine.importlib, "import_module", self._import)

    @property
    def modules(self) -> set[str]:
        return self.loaded

    def _import(self, name: str) -> Any:
        if name not in lazy_engine.MODULES:
            return importlib.__import__(name)
        self.may_finish.wait(5)
        if self.problem is not None:
            raise self.problem
        self.loaded.add(name)
        return None


@pytest.fixture
def imports(monkeypatch: pytest.MonkeyPatch) -> Imports:
    return Imports(monkeypatch)


def make_lazy() -> tuple[LazyEngine, list[ScriptedEngine], ScriptedPump]:
    made: list[ScriptedEngine] = []
    engine, pump = LazyEngine(ContainedLogger(NoopLogger())), ScriptedPump()

    def make() -> Any:
        made.append(ScriptedEngine(lambda fact: None))
        return made[-1]

    engine.bind(make, pump)  # type: ignore[arg-type]
    return engine, made, pump


def order(engine: LazyEngine, *orders: Any) -> None:
    for each in orders:
        engine.perform()[type(each)](each)


async def test_loading_ahead_makes_no_engine(imports: Imports) -> None:
    engine, made, pump = make_lazy()
    imports.may_finish.set()
    engine.load()
    await until(lambda: len(imports.loaded) == 3)
    assert made == []
    engine.load()
    assert pump.spawned == 1
    await engine.aclose()
    assert made == []


async def test_what_comes_meanwhile_is_done_in_order(imports: Imports) -> None:
    engine, made, _ = make_lazy()
    source = ScriptedTrack()
    engine.offer_track(1, source, Encoding())
    engine.offer_track(2, source, Encoding())
    engine.withdraw_track(2)
    order(engine, OpenConnection(-1, ()))
    results: list[Any] = []

    async def work() -> None:
        results.append(await engine.work(CountReceived(-1)))

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.sleep(0.01)
        order(engine, CloseConnection(-1))
        assert made == []
        imports.may_finish.set()
    assert made[0].orders == [OpenConnection(-1, ()), CloseConnection(-1)]
    assert made[0].works == [CountReceived(-1)]
    assert made[0].sources == {1: source}
    assert results == [0]
    order(engine, OpenConnection(-2, ()))
    assert made[0].orders[2:] == [OpenConnection(-2, ())]
    engine.withdraw_track(1)
    engine.withdraw_track(1)
    engine.offer_track(3, source, Encoding())
    assert made[0].sources == {3: source}
    await engine.aclose()
    assert made[0].closed


async def test_what_is_there_already_needs_no_thread(imports: Imports) -> None:
    engine, made, pump = make_lazy()
    imports.loaded |= set(lazy_engine.MODULES)
    engine.load()
    assert made == []
    await engine.work(MakeOffer(-1, ()))
    assert pump.spawned == 0
    assert len(made) == 1
    assert engine.connection(-1) == "connection -1"
    assert await engine.stats(-1) == "stats -1"  # type: ignore[comparison-overlap]
    ended: list[int] = []
    engine.on_track_ended = ended.append
    assert made[0].on_track_ended is not None
    made[0].on_track_ended(5)
    assert ended == [5]


async def test_before_there_is_an_engine(imports: Imports) -> None:
    engine, _, _ = make_lazy()
    assert engine.connection(-1) is None
    engine.withdraw_track(1)
    await engine.aclose()


async def test_closed_while_loading(imports: Imports) -> None:
    engine, made, _ = make_lazy()
    order(engine, OpenConnection(-1, ()))
    await engine.aclose()
    imports.may_finish.set()
    await until(lambda: len(imports.loaded) == 3)
    await anyio.sleep(0.01)
    order(engine, OpenConnection(-2, ()))
    assert made == []
    with pytest.raises(WebRtcMissingError):
        await engine.work(CountReceived(-1))


async def test_an_import_that_fails_fails_the_work(imports: Imports) -> None:
    engine, made, _ = make_lazy()
    imports.problem = ImportError("libav is too old")
    imports.may_finish.set()
    with pytest.raises(WebRtcMissingError), anyio.fail_after(2):
        await engine.work(MakeOffer(-1, ()))
    assert made == []


async def test_nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy_engine, "has_webrtc", lambda: False)
    engine, _, pump = make_lazy()
    monkeypatch.setattr(engine, "_is_loaded", lambda: False)
    engine.load()
    assert pump.spawned == 0
    with pytest.raises(WebRtcMissingError, match=r"pip install 'metered-sansio\[webrtc\]'"):
        engine.channel(1)
