"""Who sits in the other chair: what our own programs are tried against in a room.

A real Chromium with the published JavaScript SDK, the published Python SDK, a real coturn, and a cable that can be cut.
Tests and benchmarks use it; nothing that is shipped does. What is not on this machine is a `MissingError`, in plain
words.
"""

from __future__ import annotations


class MissingError(Exception):
    """Something of the other chair is not on this machine. The message says what, and how to get it."""
