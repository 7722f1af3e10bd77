"""What a machine has in its head, as JSON, so that a recording can begin in the middle of its life.

A machine is an object that holds objects. `freeze` walks them all and writes each once, by number, so that what is held
in two places is one thing when it is read back. `thaw` makes them again.

That is what pickling does, and it is not pickling: an object is only ever of a class that a module of the core defines,
it is made without running any code of its own, and a function is only ever a method of such a class or a function of
such a module. Whatever else a file asks for is `Unreadable`. Frozen structs are the exception to the second: they
are made by their constructors, which check what they are given.

A state belongs to the version of the library that wrote it. Another version may have other attributes: then it either
cannot be read, or a replay differs, and says where.
"""

from __future__ import annotations

import enum
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, Final

import msgspec

from metered_proto import alarms, entropy, events, facts, latency, machine, orders, settings
from metered_proto.client import (
    calls,
    deduplicator,
    envelope,
    heartbeat,
    ladder,
    ledger,
    outbox,
    pace,
    requests,
    session,
    subscriptions,
    unacked,
)
from metered_proto.entropy import Entropy
from metered_proto.relay import admission, control, guest, limits, post, registry, relay
from metered_proto.relay import calls as relay_calls
from metered_proto.relay import settings as relay_settings
from metered_proto.relay import stats as relay_stats
from metered_proto.replay import machines
from metered_proto.replay.notation import BAD_JSON, Unreadable, read_value, tree
from metered_proto.room import (
    company,
    grace,
    local_tracks,
    members,
    membership,
    outgoing,
    replacing,
    room,
    roster,
)
from metered_proto.room import settings as room_settings
from metered_proto.room import words as room_words
from metered_proto.rtc import (
    absent,
    candidates,
    connection,
    inbox,
    options,
    peer,
    received,
    recovery,
    retries,
    sent,
    servers,
    side_work,
    words,
)
from metered_proto.wire import channels, close_codes, codec, messages, sdp, signals, tokens

MODULES: Final[tuple[ModuleType, ...]] = (
    *(alarms, entropy, events, facts, latency, machine, orders, settings),
    *(
        calls,
        deduplicator,
        envelope,
        heartbeat,
        ladder,
        ledger,
        outbox,
        pace,
        requests,
        session,
        subscriptions,
        unacked,
    ),
    *(admission, control, guest, limits, post, registry, relay, relay_calls, relay_settings, relay_stats, machines),
    *(company, grace, local_tracks, members, membership, outgoing, replacing, room, roster, room_settings, room_words),
    *(absent, candidates, connection, inbox, options, peer, received, recovery, retries),
    *(sent, servers, side_work, words),
    *(channels, close_codes, codec, messages, sdp, signals, tokens),
)
"""The modules whose classes make up machines."""

MAX_OBJECTS: Final = 5_000_000
MAX_DEPTH: Final = 200


class Unfit(TypeError):  # noqa: N818 - says what the machine is
    """A machine holds something that cannot be written."""


def freeze(root: object) -> list[Any]:
    """The objects that `root` is made of, itself first, as a tree for `encode_json`. Raises `Unfit`."""
    return _Freezer(root).nodes


def thaw(nodes: object) -> Any:
    """The object that was frozen. Raises `Unreadable`, or what is in `BAD_JSON`."""
    if not isinstance(nodes, list) or not 0 < len(nodes) <= MAX_OBJECTS:
        raise Unreadable("this is no state")
    return _Thawer(nodes).get(0, 0)


def _classes() -> dict[str, type]:
    found: dict[str, type] = {}
    for module in MODULES:
        for value in vars(module).values():
            if isinstance(value, type) and value.__module__ == module.__name__:
                found[_name(value)] = value
    return found


def _functions() -> dict[str, types.FunctionType]:
    return {
        _name(value): value
        for module in MODULES
        for value in vars(module).values()
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__
    }


def _name(value: type | types.FunctionType) -> str:
    return f"{value.__module__.removeprefix('metered_proto.')}:{value.__qualname__}"


CLASSES: Final = _classes()
FUNCTIONS: Final = _functions()
_CONTAINERS: Final[dict[type, str]] = {
    list: "list",
    tuple: "tuple",
    set: "set",
    frozenset: "frozenset",
    deque: "deque",
    dict: "dict",
    OrderedDict: "ordered",
    types.MappingProxyType: "view",
}
_SCALARS: Final = (type(None), bool, int, float, str, bytes, msgspec.Raw)


class _Same:
    """An object as the key of a dictionary, whatever it holds itself equal to."""

    __slots__ = ("what",)

    def __init__(self, what: object) -> None:
        self.what = what

    def __hash__(self) -> int:
        return object.__hash__(self.what)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.what is self.what


class _Freezer:
    def __init__(self, root: object) -> None:
        self.nodes: list[Any] = []
        self._numbers: dict[_Same, int] = {}
        self._waiting: deque[tuple[int, Any]] = deque()
        self._ref(root)
        while self._waiting:
            number, value = self._waiting.popleft()
            self.nodes[number] = self._node(value)

    def _ref(self, value: Any) -> Any:
        """Text as it is, another scalar behind a `=`, anything else by the number of its node.

        Text stands right behind its name, so that what is called a credential is found there.
        """
        if type(value) in _SCALARS:
            written = tree(value)
            return written if type(written) is str else ["=", written]
        key = _Same(value)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self.nodes)
            self.nodes.append(None)
            self._waiting.append((number, value))
        return number

    def _refs(self, values: Iterable[Any]) -> list[Any]:
        return [self._ref(value) for value in values]

    def _node(self, value: Any) -> Any:
        kind = type(value)
        if (container := _CONTAINERS.get(kind)) is not None:
            if container in ("dict", "ordered", "view"):
                return [container, [[self._ref(name), self._ref(item)] for name, item in value.items()]]
            if isinstance(value, deque):
                return [container, self._refs(value), value.maxlen]
            return [container, self._refs(value)]
        if value is msgspec.UNSET:
            return ["unset"]
        if isinstance(value, type):
            return ["class", self._known(value, CLASSES)]
        if isinstance(value, types.FunctionType):
            return ["function", self._known(value, FUNCTIONS)]
        if isinstance(value, types.MethodType):
            return ["method", self._ref(value.__self__), value.__name__]
        if isinstance(value, Exception):
            return ["=", tree(value)]
        name = self._known(kind, CLASSES)
        if isinstance(value, enum.Enum):
            return ["enum", name, value.name]
        if isinstance(value, Entropy):
            return ["entropy", value.seed, self._ref(value.position)]
        if isinstance(value, tuple):
            return ["named", name, self._refs(value)]
        names = value.__struct_fields__ if isinstance(value, msgspec.Struct) else _attributes(value)
        return ["object", name, {name: self._ref(getattr(value, name)) for name in names}]

    def _known(self, value: Any, known: dict[str, Any]) -> str:
        name = _name(value)
        if known.get(name) is not value:
            raise Unfit(f"a machine that holds {name} cannot be written")
        return name


def _attributes(value: object) -> list[str]:
    names = list(vars(value)) if hasattr(value, "__dict__") else []
    for kind in type(value).__mro__:
        slots = vars(kind).get("__slots__", ())
        names += [name for name in ((slots,) if isinstance(slots, str) else slots) if hasattr(value, name)]
    return names


class _Thawer:
    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self._made: dict[int, Any] = {}

    def get(self, ref: Any, depth: int) -> Any:
        """What a reference stands for."""
        if type(ref) is str:
            return ref
        if isinstance(ref, list) and len(ref) == 2 and ref[0] == "=":
            return _scalar(ref[1])
        if type(ref) is not int or not 0 <= ref < len(self._nodes):
            raise Unreadable("a reference to nothing")
        if ref in self._made:
            return self._made[ref]
        if depth > MAX_DEPTH:
            raise Unreadable("a state that is nested too deeply")
        node = self._nodes[ref]
        try:
            return getattr(self, f"_{node[0]}" if node[0] != "=" else "_value")(ref, depth + 1, *node[1:])
        except (AttributeError, TypeError, ValueError, KeyError, IndexError) as error:
            if isinstance(error, Unreadable):
                raise
            raise Unreadable(f"a state that cannot be: {type(error).__name__}") from None

    def _value(self, ref: int, depth: int, value: Any) -> Any:
        self._made[ref] = made = _scalar(value)
        return made

    def _list(self, ref: int, depth: int, items: list[Any]) -> Any:
        made: list[Any] = []
        self._made[ref] = made
        made += (self.get(item, depth) for item in items)
        return made

    def _set(self, ref: int, depth: int, items: list[Any]) -> Any:
        made: set[Any] = set()
        self._made[ref] = made
        made.update(self.get(item, depth) for item in items)
        return made

    def _deque(self, ref: int, depth: int, items: list[Any], maxlen: int | None) -> Any:
        made: deque[Any] = deque(maxlen=maxlen)
        self._made[ref] = made
        made.extend(self.get(item, depth) for item in items)
        return made

    def _tuple(self, ref: int, depth: int, items: list[Any]) -> Any:
        self._made[ref] = made = tuple(self.get(item, depth) for item in items)
        return made

    def _frozenset(self, ref: int, depth: int, items: list[Any]) -> Any:
        self._made[ref] = made = frozenset(self.get(item, depth) for item in items)
        return made

    def _dict(self, ref: int, depth: int, items: list[Any], made: dict[Any, Any] | None = None) -> Any:
        made = {} if made is None else made
        self._made[ref] = made
        for name, item in items:
            made[self.get(name, depth)] = self.get(item, depth)
        return made

    def _ordered(self, ref: int, depth: int, items: list[Any]) -> Any:
        return self._dict(ref, depth, items, OrderedDict())

    def _view(self, ref: int, depth: int, items: list[Any]) -> Any:
        made = types.MappingProxyType(self._dict(ref, depth, items))
        self._made[ref] = made
        return made

    def _class(self, ref: int, depth: int, name: str) -> Any:
        return CLASSES[name]

    def _function(self, ref: int, depth: int, name: str) -> Any:
        return FUNCTIONS[name]

    def _method(self, ref: int, depth: int, owner: Any, name: str) -> Any:
        of = self.get(owner, depth)
        for kind in type(of).__mro__:
            function = vars(kind).get(name)
            if isinstance(function, types.FunctionType) and CLASSES.get(_name(kind)) is kind:
                return types.MethodType(function, of)
        raise Unreadable("a method of nothing")

    def _enum(self, ref: int, depth: int, name: str, member: str) -> Any:
        kind = CLASSES[name]
        if not issubclass(kind, enum.Enum):
            raise Unreadable("a member of no enumeration")
        return kind[member]

    def _entropy(self, ref: int, depth: int, seed: str, position: Any) -> Any:
        self._made[ref] = made = Entropy(str(seed))
        made.go_to(self.get(position, depth))
        return made

    def _named(self, ref: int, depth: int, name: str, items: list[Any]) -> Any:
        kind = CLASSES[name]
        if not issubclass(kind, tuple):
            raise Unreadable("no tuple")
        self._made[ref] = made = kind(*(self.get(item, depth) for item in items))
        return made

    def _unset(self, ref: int, depth: int) -> Any:
        return msgspec.UNSET

    def _object(self, ref: int, depth: int, name: str, fields: dict[str, Any]) -> Any:
        kind = CLASSES[name]
        if issubclass(kind, enum.Enum | Exception | Entropy):
            raise Unreadable("no object like others")
        if issubclass(kind, msgspec.Struct):
            return self._struct(ref, depth, kind, fields)
        made = object.__new__(kind)
        self._made[ref] = made
        for attribute, item in fields.items():
            if attribute.startswith("__"):
                raise Unreadable("an attribute that is none")
            object.__setattr__(made, attribute, self.get(item, depth))
        return made

    def _struct(self, ref: int, depth: int, kind: type[msgspec.Struct], fields: dict[str, Any]) -> Any:
        names = kind.__struct_fields__
        if kind.__struct_config__.frozen:
            self._made[ref] = made = kind(**{name: self.get(fields[name], depth) for name in names})
            return made
        make: Callable[..., Any] = kind  # first the struct, for what it holds may hold it
        self._made[ref] = made = make(**dict.fromkeys(names))
        for name in names:
            setattr(made, name, self.get(fields[name], depth))
        return made


def _scalar(value: Any) -> Any:
    try:
        return read_value(msgspec.json.encode(value))
    except BAD_JSON:
        raise Unreadable("a value that is none") from None
