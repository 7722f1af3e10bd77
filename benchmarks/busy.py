"""A long file with a picture that is hard to encode: Conway's game of life, in cells of two by two pixels.

Of plain pictures the encoders of aiortc make less than they may. With this one they send what they send of a lively
scene: VP8 well above what it was told, which is why bitrates are measured rather than believed.
"""

from __future__ import annotations

import fractions
import itertools
from pathlib import Path
from typing import Final

import av

RATE: Final = 30
ENCODED: Final = 10
"""Seconds that are encoded; the rest repeats them."""

GOP: Final = 60


def busy_clip(folder: Path, size: tuple[int, int], seconds: float) -> Path:
    """An mp4 without sound in H.264 without B-frames, 30 pictures a second, a key frame every two seconds."""
    path = folder / f"busy-{size[0]}x{size[1]}-{seconds:g}s.mp4"
    if not path.exists():
        once = _encoded(folder / f"once-{path.name}", size)
        made = _repeated(once, folder / f"making-{path.name}", max(1, round(seconds / ENCODED)))
        made.rename(path)
    return path


def _encoded(path: Path, size: tuple[int, int]) -> Path:
    width, height = size
    graph = av.filter.Graph()
    cells = graph.add("life", f"size={width // 2}x{height // 2}:rate={RATE}:ratio=0.4:random_seed=1")
    nodes = [cells, graph.add("scale", f"{width}x{height}"), graph.add("format", "yuv420p"), graph.add("buffersink")]
    for one, other in itertools.pairwise(nodes):
        one.link_to(other)
    graph.configure()
    bitrate = 1_400_000 * width * height // (640 * 480)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = GOP
        stream.codec_context.bit_rate = bitrate
        limits = {"maxrate": str(bitrate), "bufsize": str(bitrate)}
        stream.codec_context.options = {"preset": "veryfast", "bf": "0", "sc_threshold": "0", **limits}
        for number in range(ENCODED * RATE):
            frame = graph.vpull()
            frame.pts, frame.time_base = number, fractions.Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def _repeated(path: Path, made: Path, times: int) -> Path:
    with av.open(str(made), "w") as output:
        stream = None
        for turn in range(times):
            with av.open(str(path)) as source:
                origin = source.streams.video[0]
                stream = stream or output.add_stream_from_template(origin)
                for packet in source.demux(origin):
                    if packet.dts is None or packet.pts is None or packet.time_base is None:
                        continue  # what says that it is over
                    ahead = round(turn * ENCODED / packet.time_base)
                    packet.pts, packet.dts = packet.pts + ahead, packet.dts + ahead
                    packet.stream = stream
                    output.mux(packet)
    return made
