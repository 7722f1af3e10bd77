"""How much is measured: enough for figures, or (`--quick`) just enough to see that everything runs."""

from __future__ import annotations

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Rounds and amounts."""

    quick: bool = False
    core_rounds: int = 15
    core_sample: float = 0.06
    """Seconds of CPU that each side takes in each round."""
    rounds: int = 9
    many: int = 10_240
    """Messages of a side and round where 256 are in flight."""
    delivered: int = 30_720
    """Messages of a side and round where what is measured is time, with 256 in flight."""
    few: int = 2_000
    """The same with 1 in flight."""
    fan_outs: tuple[int, ...] = (100, 1000)
    fan_out_deliveries: int = 160_000
    """Of a side and round."""
    held: int = 10_000
    """Idle connections."""
    storm: int = 2_000
    """Clients that connect at once."""
    storm_rounds: int = 3
    soak_seconds: float = 60.0
    soak_size: int = 1000
    """Subscribers of the fan-out, publishers of the fan-in."""
    fan_out_rate: float = 50.0
    """Messages a second, of one publisher."""
    fan_in_rate: float = 4.0
    """Messages a second, of each publisher."""
    joins: int = 30
    """Of each side and role, until the first frame."""
    outage: float = 5.0
    """Seconds that the relay, or a socket, is away."""
    trips: int = 200
    channel_megabytes: int = 8
    remotes: tuple[int, ...] = (1, 4, 8)
    lag_seconds: float = 10.0
    browser_joins: int = 100
    replacements: int = 50
    viewing_seconds: float = 60.0
    churns: int = 50
    returns: int = 21
    sizes: tuple[tuple[int, int], ...] = ((640, 480), (1280, 720))
    viewers: tuple[int, ...] = (1, 2, 4, 8)
    own_encoders: tuple[int, ...] = (4, 8)
    """Numbers of viewers at which ours is measured with an encoder for each, too, at the first of the sizes."""
    sending_seconds: float = 5.0
    sending_warm_up: float = 5.0
    clip_seconds: float = 60.0
    visits: int = 10
    opens: int = 5
    speech_viewers: int = 8
    rounds_of_speech: int = 3
    speakers: tuple[int, ...] = (1, 50)
    silence: float = 3.0
    """Seconds for which a camera says nothing."""


QUICK = Plan(
    quick=True,
    core_rounds=1,
    core_sample=0.002,
    rounds=1,
    many=256,
    delivered=256,
    few=20,
    fan_outs=(10, 50),
    fan_out_deliveries=400,
    held=120,
    storm=20,
    storm_rounds=1,
    soak_seconds=0.4,
    soak_size=40,
    joins=1,
    outage=0.3,
    trips=3,
    channel_megabytes=1,
    remotes=(1,),
    lag_seconds=0.3,
    browser_joins=2,
    replacements=2,
    viewing_seconds=0.5,
    churns=4,
    returns=2,
    sizes=((320, 240),),
    viewers=(1,),
    own_encoders=(1,),
    sending_seconds=0.5,
    sending_warm_up=0.2,
    clip_seconds=10.0,
    visits=1,
    opens=1,
    speech_viewers=1,
    rounds_of_speech=1,
    speakers=(1, 2),
    silence=0.5,
)
