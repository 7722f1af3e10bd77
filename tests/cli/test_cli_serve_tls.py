"""`metered serve` with a certificate."""

from __future__ import annotations

import ssl

import anyio
import pytest
import trustme

from metered_anyio import SignallingClient

KEY = "pk_live_demo"


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tls_makes_it_wss(start, tmp_path, backend):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    relay = start(
        "serve", "--port", "0", "--key", KEY, "--tls-cert", str(chain), "--tls-key", str(key), "--backend", backend
    )
    url = relay.out.next().removeprefix("listening on ")
    assert url.startswith("wss://")
    context = ssl.create_default_context()
    authority.configure_trust(context)

    async def scenario() -> None:
        async with SignallingClient(api_key=KEY, url=url, ssl_context=context) as client:
            await client.publish("room", 1)

    anyio.run(scenario, backend=backend)
    assert relay.stop() == 0
