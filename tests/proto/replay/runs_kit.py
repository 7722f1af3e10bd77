"""Short runs of recorded machines: a client, a room with a peer, a relay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from metered_proto.client import ClientSession, Connect, Publish, SendTo, Subscribe
from metered_proto.client.outbox import Enqueue, OutboxQueue
from metered_proto.entropy import Entropy
from metered_proto.errors import MeteredRealtimeError
from metered_proto.facts import Asked, EffectDone, Fact, LinkAsked, LinkDown, LinkUp, Received, Woken
from metered_proto.machine import Machine, Micros
from metered_proto.orders import Begin, OpenLink, Order
from metered_proto.relay import HttpCall, PublishableKey, Relay, RelaySettings, SecretKey
from metered_proto.replay import ClientPlan, Drafted, Plan, Recorder, Recording, RelayPlan, RoomPlan, Sink
from metered_proto.replay.machines import drafted
from metered_proto.room import AddTrack, Join, Room, RoomSettings
from metered_proto.rtc.words import ConnectionChanged, Described, LocalTrack, MakeOffer, TakeAnswer
from metered_proto.settings import ClientSettings, Outbox
from metered_proto.wire.tokens import mint

T = TypeVar("T")

KEY = "pk_live_abcDEF0123456789"
TOKEN = "a/token of the provider's own+words"
TURN_USER = "1767225600:turn-user"
TURN_PASSWORD = 'p4ss"w\\ord/Zq0'
ICE_PASSWORD = "iCePaSsWoRd0123456789abcd"
REMOTE_ICE_PASSWORD = "ReMoTePwD9876543210zyxw"
CAMERA_PASSWORD = "c4m3r4-pw"
SIGNING_SECRET = "sk_secret_0123456789abcdefABCDEF0123456789"
ALL_SECRETS = (
    KEY,
    TOKEN,
    TURN_USER,
    TURN_PASSWORD,
    ICE_PASSWORD,
    REMOTE_ICE_PASSWORD,
    CAMERA_PASSWORD,
    SIGNING_SECRET,
)

ICE_SERVERS = [{"urls": ["turn:turn.example:3478"], "username": TURN_USER, "credential": TURN_PASSWORD}]


def welcome(**more: Any) -> str:
    return msgspec.json.encode(
        {"type": "welcome", "peerId": "me", "serverTime": 1, "maxMessageSize": 65536, **more}
    ).decode()


def sdp(password: str, ufrag: str = "abcd") -> str:
    return (
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n"
        "m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtpmap:96 VP8/90000\r\n"
        f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:{password}\r\na=setup:actpass\r\na=fingerprint:sha-256 AA:BB\r\n"
        "a=msid:stream track\r\n"
    )


class Run:
    """A recorded machine, and who drives it. Every fact is a millisecond after the one before."""

    def __init__(self, machine: Machine, plan: Plan, *, at_once: Sink | None = None, **options: Any) -> None:
        self.chunks: list[bytes] = []
        self.recorder = Recorder(
            machine, at_once or self.chunks.append, plan=plan, key=b"a key of this test", **options
        )
        self.now: Micros = 0
        self.ops = 0

    def tell(self, fact: Fact) -> list[Order]:
        self.now += 1000
        orders = self.recorder.handle(self.now, fact)
        assert self.recorder.deadline == self.recorder.machine.deadline
        return orders

    def ask(self, call: Any) -> list[Order]:
        self.ops += 1
        return self.tell(Asked(self.ops, call))

    def sleep(self) -> list[Order]:
        deadline = self.recorder.deadline
        assert deadline is not None
        self.now = max(deadline.at, self.now) - 1000
        return self.tell(Woken())

    @property
    def data(self) -> bytes:
        self.recorder.flush()
        return b"".join(self.chunks)

    @property
    def recording(self) -> Recording:
        return Recording.of(self.data)


def one(orders: list[Order], kind: type[T]) -> T:
    (found,) = (order for order in orders if isinstance(order, kind))
    return found


def client_run(*, key: str | None = KEY, **options: Any) -> Run:
    """A client that connects, subscribes, publishes, loses its connection, and comes back."""
    settings = ClientSettings(api_key=key)
    run = Run(ClientSession(settings, Entropy("client")), ClientPlan(settings, "client"), **options)

    def online(orders: list[Order]) -> int:
        if key is None:
            orders = run.tell(EffectDone(one(orders, Begin).effect, TOKEN))
        link = one(orders, OpenLink).link
        run.tell(LinkUp(link))
        run.tell(Received(link, [welcome(metadata={"iceServers": ICE_SERVERS})]))
        return link

    link = online(run.ask(Connect()))
    run.ask(Subscribe("a"))
    run.ask(Publish.of("a", {"n": 1.0, "from": f"rtsp://user:{CAMERA_PASSWORD}@10.0.0.1/1"}))
    run.ask(SendTo.of("you", None))
    run.tell(
        Received(link, ['{"type":"ack","requestId":"1"}', '{"type":"message","channel":"a","from":"x","data":[1]}'])
    )
    run.tell(Received(link, ["rubbish", b"binary"]))
    run.tell(LinkDown(link, 1006, f"the server says {TOKEN} is odd" if key is None else ""))
    online(run.sleep())
    run.sleep()
    return run


def outbox_run() -> Run:
    """A client with an outbox, which drafts, enqueues, and is refused a draft."""
    settings, options, entropy = ClientSettings(api_key=KEY), Outbox(max_messages=2, overflow="reject"), Entropy("o")
    queue = OutboxQueue(options, entropy.fork("outbox"), ack_timeout=settings.ack_timeout)
    run = Run(ClientSession(settings, entropy, outbox=queue), ClientPlan(settings, "o", options))
    for number in range(3):
        fact = Drafted("a", b'{"n":%d}' % number)
        answer, error = drafted(queue, run.now, fact)
        run.recorder.beside(run.now, fact, [answer])
        if error is None:
            run.ask(Enqueue(answer.value))
        else:
            assert isinstance(error, MeteredRealtimeError)
    link = one(run.ask(Connect()), OpenLink).link
    run.tell(LinkUp(link))
    run.tell(Received(link, [welcome()]))
    run.tell(Received(link, ['{"type":"ack","requestId":"o1"}']))
    return run


def room_run() -> Run:
    """A room in which we offer video to somebody, who answers."""
    settings = RoomSettings(client=ClientSettings(api_key=KEY))
    run = Run(Room(settings, Entropy("room")), RoomPlan(settings, "room"))
    link = one(run.ask(Join("room")), OpenLink).link
    run.tell(LinkUp(link))
    run.tell(Received(link, [welcome(metadata={"iceServers": ICE_SERVERS})]))
    run.tell(Received(link, ['{"type":"ack","requestId":"1"}']))
    run.tell(Received(link, ['{"type":"presence","channel":"room","joined":[{"peerId":"away"}]}']))
    begun = run.ask(AddTrack(LocalTrack(1, "video", "track", "stream", {"name": "x"})))
    for _ in range(10):
        offers = [order for order in begun if isinstance(order, Begin) and isinstance(order.work, MakeOffer)]
        if offers:
            break
        begun = run.sleep()
    (begin,) = offers
    run.tell(EffectDone(begin.effect, Described(sdp(ICE_PASSWORD))))
    answer = {"type": "rtc-description", "description": {"type": "answer", "sdp": sdp(REMOTE_ICE_PASSWORD, "efgh")}}
    direct = {"type": "direct", "from": "away", "data": answer}
    begun = run.tell(Received(link, [msgspec.json.encode(direct).decode()]))
    (begin,) = (order for order in begun if isinstance(order, Begin) and isinstance(order.work, TakeAnswer))
    run.tell(EffectDone(begin.effect))
    pc = begin.work.pc
    run.tell(ConnectionChanged(pc, "connected"))
    run.tell(ConnectionChanged(pc, "failed"))
    run.sleep()
    return run


def relay_run() -> Run:
    """A relay that lets somebody in by a key and somebody by a token, turns two away, and mints a token."""
    secret = SecretKey("sk_id_one", SIGNING_SECRET)
    settings = RelaySettings(born_at=1_767_225_600.0, keys=(PublishableKey(KEY),), secrets=(secret,))
    run = Run(Relay(settings, Entropy("relay")), RelayPlan(settings, "relay"))
    token = mint(
        key_id=secret.id,
        secret=secret.secret,
        peer_id="signed",
        now=1_767_225_600,
        metadata={"iceServers": ICE_SERVERS},
    )
    targets = (
        f"/v1?key={KEY}",
        f"/v1?token={token}",
        f"/v1?token={token[:-4]}AAAA",
        "/v1?key=pk_live_wrong",
        "/v1?key=%70k_live_x",
    )
    for link, target in enumerate(targets, 1):
        run.tell(LinkAsked(link, target, "127.0.0.1"))
        run.tell(LinkUp(link))
    run.tell(Received(1, ['{"type":"subscribe","channel":"a","requestId":"1"}']))
    run.tell(Received(2, ['{"type":"subscribe","channel":"a"}', '{"type":"publish","channel":"a","data":{"x":1.50}}']))
    run.tell(Received(2, [f'{{"type":"send","to":"{"signed"}","data":"rtsp://u:{CAMERA_PASSWORD}@h/"}}']))
    body = msgspec.json.encode({"peerId": "minted", "metadata": {"iceServers": ICE_SERVERS}})
    for credential in (f"sk_id_one:{SIGNING_SECRET}", "sk_id_one:sk_secret_wrong-but-long-enough-to-be-one"):
        run.ask(HttpCall("POST", "/v1/tokens", (("authorization", f"Bearer {credential}"),), body))
    run.tell(LinkDown(1, 1000))
    run.sleep()
    return run


RUNS: dict[str, Callable[[], Run]] = {
    "client": client_run,
    "client with tokens": lambda: client_run(key=None),
    "outbox": outbox_run,
    "room": room_run,
    "relay": relay_run,
}
