"""The quickest masker that is installed.

Masking is the one thing on the way of a message that pure Python is slow at: 5 µs for 4 KB, where compiled code takes
a quarter of one. The `websockets` package has such code, so where it is installed (by the extra `speedups`, or with the
published SDK, which needs it) every connection masks with it.
"""

from __future__ import annotations

from functools import cache

from metered_proto.masking import Masker, mask


@cache
def quickest_masker() -> Masker:
    """Compiled, if there is one. The first call takes some time: call it where a client or a relay is made."""
    try:
        from websockets.speedups import apply_mask
    except ImportError:
        return mask
    return apply_mask
