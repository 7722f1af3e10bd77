"""A name or pattern is taken, or refused with `ValueError`. A pattern that covers another one matches all that it
matches."""

from __future__ import annotations

from collections.abc import Hashable

from metered_proto.wire.channels import (
    Pattern,
    channel_problem,
    check_channel,
    check_peer_id,
    covered_by_any,
    is_pattern,
)

WORDS = (b"*", b"**", b"/", b"a", b"room/", b"_metered/", b"/*/", b"\n", b"//")


def check(data: bytes) -> Hashable:
    texts = [piece.decode(errors="surrogateescape") for piece in data.split(b"\n")[:3]]
    outcome: list[Hashable] = []
    patterns = []
    for text in texts:
        problem = channel_problem(text)
        try:
            check_channel(text)
        except ValueError:
            assert problem == "invalid_channel"
        else:
            assert problem in (None, "channel_reserved")
            patterns.append(Pattern(text))
            assert patterns[-1].covers(text)
        try:
            check_peer_id(text)
        except ValueError:
            pass
        outcome.append((problem, is_pattern(text)))
    plain = [text for text in texts if channel_problem(text) != "invalid_channel" and not is_pattern(text)]
    for one in patterns:
        assert covered_by_any(one, patterns)
        for other in patterns:
            covers = one.covers(other)
            outcome.append(covers)
            if covers:
                assert all(one.matches(name) for name in plain if other.matches(name))
    return tuple(outcome)
