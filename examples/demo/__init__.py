"""The demo: a fleet of device processes, a backend, and a relay that is killed in the middle of it.

    python -m examples.demo --seconds 20 --devices 5 --outage 4

What to read first: `device.py` (what runs in the field), then `backend.py` (what listens to it). `fleet.py` plays the
story with processes; the rest is for the eye.

How a reading survives. A device enqueues it: from then on it is in the outbox, which is a file here, and leaves it
once the relay has acknowledged it. That takes care of a relay that is away, and of a device that is killed meanwhile.
But an acknowledgement says nothing about who heard it: while the backend is away, a reading is acknowledged and goes to
nobody. So the backend says every now and then that it is there, and each device asks it back which of the readings that
the relay took it misses; those are enqueued once more, under the same id, so that one that comes twice counts once.

What remains: a reading that the relay took while nobody listened is in the device's memory alone, so a device that is
killed in just that moment loses it. The one that is killed here is started again once the backend listens again.
"""
