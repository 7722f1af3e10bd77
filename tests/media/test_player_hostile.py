"""Strings and files of strangers open nothing but what was allowed."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from metered_media import SourceOpenError, from_file, from_rtsp, open_file, open_rtsp
from testbed.clips import clip

pytestmark = pytest.mark.anyio


class Trap:
    """A port that nobody must connect to."""

    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.port = self.socket.getsockname()[1]

    @property
    def touched(self) -> bool:
        try:
            self.socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


@pytest.fixture
def trap() -> Iterator[Trap]:
    trap = Trap()
    yield trap
    trap.socket.close()


def strings(port: int, path: Path) -> list[str]:
    return [
        f"http://127.0.0.1:{port}/x.mp4",
        f"rtsp://127.0.0.1:{port}/x",
        f"tcp://127.0.0.1:{port}",
        f"rtmp://127.0.0.1:{port}/x",
        f"cache:http://127.0.0.1:{port}/x",
        f"async:http://127.0.0.1:{port}/x",
        f"concat:{path}|{path}",
        f"subfile,,start,0,end,100,,:{path}",
        f"data:video/mp4;base64,{'A' * 64}",
        f"crypto:{path}",
        "pipe:0",
    ]


def test_hostile_strings_are_refused_at_the_call(trap: Trap, tmp_path: Path) -> None:
    path = clip(tmp_path, "h264_slow")
    for text in strings(trap.port, path):
        with pytest.raises(SourceOpenError) as caught:
            from_file(text)
        assert caught.value.code == "not_allowed", text
    for text in (f"file:{path}", str(path), f"concat:{path}", "-i", *strings(trap.port, path)[2:]):
        with pytest.raises(SourceOpenError) as caught:
            from_rtsp(text)
        assert caught.value.code == "not_allowed", text
        with pytest.raises(SourceOpenError):
            from_rtsp(text, protocols=("file", "rtsp"))
    assert not trap.touched


def test_a_word_that_looks_like_an_option_is_a_file_that_is_not_there() -> None:
    with pytest.raises(SourceOpenError) as caught:
        from_file("-i")
    assert caught.value.code == "not_found"


async def test_files_that_refer_to_elsewhere_are_not_read(trap: Trap, tmp_path: Path) -> None:
    other = clip(tmp_path, "h264_slow")
    url = f"http://127.0.0.1:{trap.port}/x.ts"
    texts = {
        "remote.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n",
        "local.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n",
        "renamed.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n",
        "list.ffconcat": f"ffconcat version 1.0\nfile '{other}'\n",
        "net.ffconcat": f"ffconcat version 1.0\nfile '{url}'\n",
        "call.sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {trap.port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "manifest.mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f"<BaseURL>{url}</BaseURL></Period></MPD>",
    }
    for name, text in texts.items():
        path = tmp_path / name
        path.write_text(text)
        with pytest.raises(SourceOpenError) as caught:
            await open_file(path, timeout=20)
        assert caught.value.code in ("not_allowed", "unreadable"), name
        with path.open("rb") as opened, pytest.raises(SourceOpenError):
            await open_file(opened, timeout=20)
    assert not trap.touched


async def test_what_was_allowed_is_fetched_and_leads_to_no_file(tmp_path: Path) -> None:
    video = clip(tmp_path, "vp8").read_bytes()
    asked: list[bytes] = []

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                asked.append(await stream.receive())
                if b"/moved" in asked[-1]:
                    await stream.send(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hosts\r\nContent-Length: 0\r\n\r\n")
                else:
                    head = f"HTTP/1.1 200 OK\r\nContent-Type: video/webm\r\nContent-Length: {len(video)}\r\n\r\n"
                    await stream.send(head.encode() + video)
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        async with await open_file(f"http://127.0.0.1:{port}/a.webm?token=hush", protocols=("http",)) as player:
            assert player.video is not None
            await player.video.recv()
            assert "hush" not in repr(player)
        with pytest.raises(SourceOpenError) as caught:
            await open_file(f"http://127.0.0.1:{port}/moved?token=hush", protocols=("file", "http"))
        assert "hush" not in f"{caught.value} {caught.value.args}"
        async with await open_rtsp(f"http://127.0.0.1:{port}/live.webm") as player:
            assert player.video is not None
        group.cancel_scope.cancel()
    await listener.aclose()
    assert len(asked) >= 3


async def test_no_error_leads_to_one_that_holds_credentials() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    await listener.aclose()
    with pytest.raises(SourceOpenError) as caught:
        await open_rtsp(f"rtsp://user:hush@127.0.0.1:{port}/x?token=hush", timeout=20)
    error: BaseException | None = caught.value
    while error is not None:
        assert "hush" not in f"{error} {error!r} {error.args}"
        error = error.__cause__ or error.__context__
