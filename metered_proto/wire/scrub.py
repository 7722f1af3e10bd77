"""Taking secrets out of text, before anybody logs it or puts it into an error.

What counts as a secret: keys and tokens in a URL or in JSON, `pk_live_…`, `sk_secret_…` (not `sk_id_…`, which is a
name), JWTs, `Authorization` headers, a user name and password in a URL, the ICE password and keys of an SDP, and
whatever is called credential, password or secret.

It errs to one side: harmless text that looks like a secret goes as well. Each rule is one regular expression
that runs over the text once; wherever its beginning matches, the rest either matches too or fails at text that
no other beginning will look at again, so time is linear in the text, whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias
from urllib.parse import unquote_plus

MASK: Final = "***"
MAX_DEPTH: Final = 8
"""How deep `scrub_value` looks into nested containers; below it everything is masked."""


def scrub(text: str) -> str:
    """The text, with `***` in place of each secret."""
    for rule, replacement in _RULES:
        text = rule.sub(replacement, text)
    return text


def scrub_url(url: str) -> str:
    """A URL, with its secrets replaced. Unlike `scrub`, it also knows a parameter whose name is percent-encoded."""
    body, hash_mark, fragment = url.partition("#")
    base, question_mark, query = body.partition("?")
    parameters = [_scrub_parameter(parameter) for parameter in query.split("&")]
    return scrub(base) + question_mark + "&".join(parameters) + hash_mark + scrub(fragment)


def scrub_value(value: object, *, depth: int = MAX_DEPTH) -> object:
    """A copy of nested dictionaries, lists and text for a log, without secrets.

    What a dictionary holds under a name like credential, password, token, key, secret or authorization is masked
    whatever it is. Numbers, booleans and None stay; of anything else there is only the scrubbed `repr`.
    """
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        return scrub(value)
    if depth <= 0:
        return MASK
    if isinstance(value, Mapping):
        return {_scrub_name(name): _scrub_member(name, member, depth - 1) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [scrub_value(member, depth=depth - 1) for member in value]
    return scrub(repr(value))


_Rule: TypeAlias = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

_NAMES: Final = r"(?: key | token | secret | password | passwd | pwd | credential )"
_SECRET_NAME: Final = re.compile(rf"(?: {_NAMES} | authorization ) s? \Z", re.VERBOSE)


def _mask_jwt(found: re.Match[str]) -> str:
    return MASK if found[0].count(".") >= 2 else found[0]


def _rule(pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> _Rule:
    return re.compile(pattern, re.IGNORECASE | re.VERBOSE | re.DOTALL), replacement


# Possessive quantifiers (`*+`) give nothing back, so what follows one is tried once. They stand behind single
# characters only: behind a group, Python before 3.11.5 gets them wrong (gh-106052).
# The order counts: first the rules that know where a secret begins and ends, then those that know it by its look.
_RULES: Final[tuple[_Rule, ...]] = (
    # scheme://user:password@host, up to the last @ of the authority (RFC 3986 section 3.2)
    _rule(r"""(//) [^\s/?\#"<>]* @""", rf"\1{MASK}@"),
    # the same as a parameter of another URL, percent-encoded once or more often
    _rule(
        r"""(% (?P<level> (?:25)* ) 3a (?: % (?P=level) 2f ){2} )
            (?: (?! % (?P=level) [23]f ) [^\s/?\#"<>] )* ( % (?P=level) 40 | @ )""",
        rf"\1{MASK}\3",
    ),
    # Authorization and Proxy-Authorization: as a line, in a dictionary, in a pair; a scheme and one word
    _rule(
        r"""(authorization) ( \\*+ ["'] \s*+ [:=,] \s*+ | \s*+ [:=] \s*+ ) ( \[?+ (?: b (?= ["'] ) )? \\*+ ["']?+ )
            (?: [a-z]++ [ \t]++ )? [^\s"'\\]*+""",
        rf"\1\2\3{MASK}",
    ),
    _rule(r"(bearer|basic) (\s++) [a-z0-9._~+/:=-]{16,}+", rf"\1\2{MASK}"),
    # "credential": "…", quoted either way, or by \" where JSON stands in JSON: up to the same quote again
    _rule(
        rf"""({_NAMES}) ( \\*+ ["'] \s*+ [:=,] \s*+ | \s*+ [:=] \s*+ ) (b?+) (?P<escape> \\*+ ) (?P<quote> ["'] )
             (?: (?! (?<!\\) (?P=escape) (?P=quote) ) . )*""",
        rf"\1\2\3\g<escape>\g<quote>{MASK}",
    ),
    # key=…, token%3D… in a query
    _rule(
        rf"""({_NAMES}) ( \\*+ ["']?+ \s*+ = \s*+ | % (?:25)* 3d ) (?! ["'\\] ) [^\s&"<>\\]++""",
        rf"\1\2{MASK}",
    ),
    # "token": 7
    _rule(rf"""({_NAMES}) ( \\*+ ["'] \s*+ : \s*+ ) [^\s,"'\\{{\[\]}}]++""", rf"\1\2{MASK}"),
    # password: …, a=ice-pwd:… (RFC 8839 section 5.4), a=crypto:… (RFC 4568)
    _rule(
        r"""((?: secret | password | passwd | pwd | credential ) \s*+ : \s*+ ) (?! ["'\\] ) [^\s"<>\\]++""",
        rf"\1{MASK}",
    ),
    _rule(r"""(a=crypto:) [^\r\n"\\]*+""", rf"\1{MASK}"),
    # the keys and tokens themselves, wherever they stand
    _rule(r"(pk_live_|sk_secret_) [a-z0-9_.~%+/-]*+", rf"\1{MASK}"),
    _rule(r"eyj [a-z0-9_-]*+ (?: \. [a-z0-9_-]*+ )*", _mask_jwt),
)


def _scrub_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{scrub(name)}={MASK}" if equals and _is_secret_name(unquote_plus(name)) else scrub(parameter)


def _scrub_name(name: object) -> object:
    if name is None or isinstance(name, int | float):
        return name
    return scrub(name if isinstance(name, str) else repr(name))


def _scrub_member(name: object, member: object, depth: int) -> object:
    if isinstance(name, str) and _is_secret_name(name) and not (member is None or isinstance(member, bool)):
        return MASK
    return scrub_value(member, depth=depth)


def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search("".join(filter(str.isalpha, name.lower()))) is not None
