"""A file in a room: its viewers get it whole, passed on or encoded, and are told when it is over."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import anyio
import pytest
from player_kit import Seen, until

from metered_anyio import MediaStream, MeteredPeer, PeerJoined, Track
from metered_anyio.relay import RelayServer
from metered_media import from_file
from testbed.clips import clip, number_of

pytestmark = pytest.mark.anyio
KEY = "pk_live_test"


@pytest.mark.parametrize("passthrough", [True, False])
async def test_a_file_is_seen_to_its_end(tmp_path: Path, passthrough: bool) -> None:
    seen = Seen()
    async with (
        RelayServer(keys=[KEY]) as relay,
        MeteredPeer(api_key=KEY, url=relay.url) as cinema,
        MeteredPeer(api_key=KEY, url=relay.url) as viewer,
        anyio.create_task_group() as group,
    ):

        @viewer.on(PeerJoined)
        def met(event: PeerJoined) -> None:
            @event.peer.on(Track)
            def track(event: Track) -> Any:
                group.start_soon(seen.read, event.track)

        with from_file(clip(tmp_path, "h264"), passthrough=passthrough) as player:
            assert player.video is not None
            cinema.add_track(player.video, MediaStream(id="film"))
            await viewer.join("cinema")
            await cinema.join("cinema")
            await until(lambda: player.video is not None and player.video.readyState == "ended", 40)
            await until(lambda: seen.over, 10)
        numbers = [number_of(frame) for frame in seen.things]
        # The first pictures may go before the viewer is heard of, and the last of them may be cut off.
        assert len(numbers) >= 40
        assert all(one < other for one, other in itertools.pairwise(numbers))
        assert numbers[0] == 0 or not passthrough
