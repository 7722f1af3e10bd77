"""What opens the doors of the rooms here: a key, a secret, tokens."""

from __future__ import annotations

import time
from typing import Any

from metered_proto.wire.tokens import mint

KEY = "pk_live_testbed"
SECRET_ID, SECRET = "sk_id_testbed", "sk_secret_testbed_0123456789abcdef"

ROOM = "room"


def token(name: str, **claims: Any) -> str:
    """A token for a peer id."""
    return mint(key_id=SECRET_ID, secret=SECRET, peer_id=name, now=int(time.time()), expires_in=3600, **claims)
