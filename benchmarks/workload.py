"""What is sent: a sensor's readings, alone or in batches, and the names that everybody uses."""

from __future__ import annotations

from typing import Any

KEY = "pk_live_bench"
CHANNEL = "fleet/sensor-42/telemetry"

READING: dict[str, Any] = {"ts": 1_767_225_600_000, "temp": 21.5, "humidity": 45.2, "volts": 3.3}
"""60 bytes of JSON."""

BATCH: dict[str, Any] = {"readings": [{**READING, "ts": READING["ts"] + number} for number in range(66)]}
"""4 KB of JSON."""

MARK = b"!"
MARKED: dict[str, Any] = {"ts": 1_767_225_600_000, "temp": 21.53, "state": "up and running" + MARK.decode()}
"""A reading with a byte that nothing else on the wire has: whoever counts that byte has counted the messages."""

PAYLOADS = {"60 B": READING, "4 KB": BATCH, "marked": MARKED}
