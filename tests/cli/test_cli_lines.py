"""Reading the lines of stdin."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import contextmanager

import anyio
import pytest

from metered_anyio.cli.common import Failure, Misuse
from metered_anyio.cli.lines import MAX_LINE, LineReader, stdin_descriptor

BACKENDS = ["asyncio", "trio"]


@contextmanager
def descriptors(kind, content, tmp_path):
    """A pipe, a socket or a file that has `content` and ends then."""
    if kind == "file":
        path = tmp_path / "lines"
        path.write_bytes(content)
        reader = os.open(path, os.O_RDONLY)
    elif kind == "pipe":
        reader, writer = os.pipe()
        os.write(writer, content)
        os.close(writer)
    else:
        ours, theirs = socket.socketpair()
        ours.sendall(content)
        ours.close()
        reader = theirs.detach()
    try:
        yield reader
    finally:
        os.close(reader)


def read_all(descriptor, backend="asyncio"):
    async def read():
        reader = LineReader(descriptor)
        found = []
        while (line := await reader.next()) is not None:
            found.append((reader.number, line))
        assert await reader.next() is None
        return found

    return anyio.run(read, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["file", "pipe", "socket"])
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"a", ["a"]),
        (b"a\r\n\n b\rc \n\xc3\xa4", ["a", "", " b\rc ", "ä"]),
        (b"x\n" * 3, ["x"] * 3),
    ],
)
def test_lines_and_their_numbers(kind, backend, content, lines, tmp_path):
    with descriptors(kind, content, tmp_path) as descriptor:
        assert read_all(descriptor, backend) == list(enumerate(lines, 1))


def test_lines_longer_than_a_read(tmp_path):
    lines = ["a" * 65_535, "b" * 65_536, "c" * 200_000, "d" * MAX_LINE]
    with descriptors("file", "\n".join(lines).encode(), tmp_path) as descriptor:
        assert [line for _, line in read_all(descriptor)] == lines


@pytest.mark.parametrize("end", [b"", b"\n", b"more" * 50_000])
def test_a_line_that_is_too_long(tmp_path, end):
    with (
        descriptors("file", b"1\n" + b"x" * (MAX_LINE + 1) + end, tmp_path) as descriptor,
        pytest.raises(Failure, match="line 2 is longer than 1048576 bytes"),
    ):
        read_all(descriptor)


def test_a_line_that_is_not_utf_8(tmp_path):
    with descriptors("pipe", b"1\n\xff\n", tmp_path) as descriptor, pytest.raises(Failure, match="line 2 is not UTF-8"):
        read_all(descriptor)


def test_what_cannot_be_read(tmp_path):
    descriptor = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(Failure, match="cannot read stdin: Is a directory"):
        read_all(descriptor)
    os.close(descriptor)


@pytest.mark.parametrize("backend", BACKENDS)
def test_waiting_for_a_line_holds_nothing_up_and_can_be_called_off(backend):
    reader, writer = os.pipe()

    async def scenario():
        lines = LineReader(reader)
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(lines.next)
                await anyio.wait_all_tasks_blocked()
                scope.cancel()
        os.write(writer, b"here\n")
        return await lines.next(), lines.number

    assert anyio.run(scenario, backend=backend) == ("here", 1)
    os.close(reader)
    os.close(writer)


def test_another_process_that_was_quicker(monkeypatch):
    reader, writer = os.pipe()
    os.write(writer, b"here\n")
    os.close(writer)
    real, refusals = os.read, [BlockingIOError()]

    def read(descriptor, size):
        if descriptor == reader and refusals:
            raise refusals.pop()
        return real(descriptor, size)

    monkeypatch.setattr(os, "read", read)
    assert read_all(reader) == [(1, "here")]
    assert refusals == []
    os.close(reader)


def test_no_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Misuse, match="there is no stdin"):
        stdin_descriptor()
