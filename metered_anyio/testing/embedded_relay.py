"""A relay for tests: on a free port, with a key and a secret of its own, and no limits that a test would run into."""

from __future__ import annotations

import secrets
import time
from typing import Any

from metered_anyio.relay import Limits, PublishableKey, RelayServer, SecretKey
from metered_proto.wire.tokens import mint


class EmbeddedRelay(RelayServer):
    """A `RelayServer` that lets in whoever has its `api_key`, or a token that `token()` made."""

    def __init__(self, **options: Any) -> None:
        self.api_key = f"pk_live_{secrets.token_hex(8)}"
        self.secret = SecretKey(f"sk_id_{secrets.token_hex(4)}", f"sk_secret_{secrets.token_hex(16)}")
        options.setdefault("limits", Limits(connects_per_minute=None, message_rate=None))
        super().__init__(keys=[PublishableKey(self.api_key)], secrets=[self.secret], **options)

    def token(self, peer_id: str, **claims: Any) -> str:
        """A token for a peer, good for an hour; `claims` as in `metered_proto.wire.tokens.mint`."""
        claims.setdefault("now", int(time.time()))
        return mint(key_id=self.secret.id, secret=self.secret.secret, peer_id=peer_id, **claims)

    def token_provider(self, peer_id: str, **claims: Any) -> Any:
        """What a client takes as its `token_provider`."""

        async def provide() -> str:
            return self.token(peer_id, **claims)

        return provide
