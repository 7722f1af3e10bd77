"""The core on anyio: clients and a relay for asyncio and trio."""
