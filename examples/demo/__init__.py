"""The demo: a fleet of device processes, a backend, and a relay that is killed in the middle of it.

    python -m examples.demo --seconds 20 --devices 5 --outage 4

What to read first: `device.py` (what runs in the field), `backend.py` (what listens to it), then `buffer.py` and
`deliveries.py`, the two sides of "no reading is lost". `fleet.py` plays the story with processes; the rest is for
the eye.

How a reading survives. A publish is acknowledged by the relay, and that says nothing about who heard it: while the
backend is away, a reading is acknowledged and goes to nobody. So a device keeps every reading until the *backend*
has confirmed it, in a bounded buffer, and sends it again when no confirmation comes in time or the connection was
replaced. The backend knows each reading by its device and number, so one that comes twice counts once.
"""
