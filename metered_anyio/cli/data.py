"""The one small language for what is published, sent and asked: JSON, or else text."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
import typer

from metered_anyio.cli.common import Misuse

DataArgument: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="DATA", help="What to send: JSON, or else text. Put -- before what begins with a -."),
]
StringOption: TypeAlias = Annotated[
    bool, typer.Option("--string", help="What is sent is text, also where it could be JSON.")
]


def read_data(text: str, *, string: bool) -> Any:
    """What a text stands for: the JSON it is, verbatim, so that numbers stay as they were written; or itself."""
    if string:
        return text
    try:
        msgspec.json.decode(text)
    except RecursionError:
        raise Misuse("DATA is nested too deeply") from None
    except ValueError:
        return text
    return msgspec.Raw(text.strip().encode())
