"""What a device measures: the machine that it runs on."""

from __future__ import annotations

import time
from typing import Any

import psutil


class Host:
    """This host's sensors. The traffic in a reading is that since the reading before."""

    def __init__(self) -> None:
        self._at, self._sent, self._received = _traffic()

    def read(self) -> dict[str, Any]:
        """One reading: unix milliseconds, the load, percents, bytes a second, and °C if there is a sensor for it."""
        at, sent, received = _traffic()
        seconds = max(at - self._at, 0.001)
        reading = {
            "at": time.time_ns() // 1_000_000,
            "load": round(psutil.getloadavg()[0], 2),
            "memory": psutil.virtual_memory().percent,
            "disk": psutil.disk_usage("/").percent,
            "sending": round((sent - self._sent) / seconds),
            "receiving": round((received - self._received) / seconds),
            "temperature": _temperature(),
        }
        self._at, self._sent, self._received = at, sent, received
        return reading


def _traffic() -> tuple[float, int, int]:
    counters = psutil.net_io_counters()
    return time.monotonic(), *((counters.bytes_sent, counters.bytes_recv) if counters else (0, 0))


def _temperature() -> float | None:
    if not hasattr(psutil, "sensors_temperatures"):  # Linux and FreeBSD have it
        return None
    sensors = [sensor.current for group in psutil.sensors_temperatures().values() for sensor in group]
    return max(sensors, default=None)
