"""`metered devices`: the cameras, microphones and screens of this machine."""

from __future__ import annotations

from metered_anyio.cli.common import JsonOption
from metered_anyio.cli.screen import tell, word, write_cells, write_json
from metered_media.cli.in_room import need_media


def devices(json: JsonOption = False) -> None:
    """List what this machine can send: camera, microphone and screen, by the names that `metered bridge` takes.

    With --json, one object a line.
    """
    need_media()
    import metered_media

    found = metered_media.devices()
    for device in found:
        if json:
            write_json({"kind": device.kind, "name": device.name, "path": device.path})
        else:
            write_cells((f"{device.kind}:{word(device.path)}", "cyan"), (device.name, ""))
    if not found and not json:
        tell("no camera, microphone or screen was found")
