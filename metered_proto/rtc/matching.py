"""Which offer an answer is for.

Nothing in JSEP says so, because there an answer is never late. Here it may be: an offer is said again when it is not
answered in time, so it may be answered twice, and an answer may come when its offer has been replaced by another one.
An answer of ours therefore names the offer in an attribute of its session, which others do not know and ignore (RFC
8866, section 5.13). The answers of others carry none, and are taken for whatever offer is out.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

_ATTRIBUTE: Final = "x-metered-offer"
_FIND: Final = re.compile(rf"^a={_ATTRIBUTE}:([0-9a-f]{{16}})\r?$", re.MULTILINE)
_SECTIONS: Final = re.compile(r"^m=", re.MULTILINE)
_PASSWORDS: Final = re.compile(r"^a=ice-pwd:.*$", re.MULTILINE)
_LONGEST_SESSION: Final = 8192
"""Characters of a description that are searched."""


def name_of_offer(sdp: str) -> str:
    """A short name for an offer, which differs for every other text.

    The ICE password is left out of it: what is derived from a secret could not be had again from a recording, in which
    secrets are replaced. Where the password differs, the user name fragment does, too.
    """
    return hashlib.sha256(_PASSWORDS.sub("", sdp).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def for_offer(answer: str, offer: str) -> str:
    """The answer, naming the offer it is for. One without any media section stays as it is."""
    head, section, rest = answer.partition("\r\nm=")
    return f"{head}\r\na={_ATTRIBUTE}:{name_of_offer(offer)}{section}{rest}" if section else answer


def offer_named_in(answer: str) -> str | None:
    """The name of the offer that an answer is for, where it says so."""
    session = _SECTIONS.split(answer[:_LONGEST_SESSION], maxsplit=1)[0]
    found = _FIND.search(session)
    return found[1] if found else None
