"""What the pages show of the wire is what the code reads and writes. The receiver in JavaScript agrees with ours."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from metered_proto.client.deduplicator import Deduplicator, Delivery
from metered_proto.client.envelope import BatchStamp, Opened, seal, seal_batch, unseal
from metered_proto.client.requests import AnswerRequests, Request, Requests, reply, reply_error
from metered_proto.entropy import Entropy
from metered_proto.errors import RequestFailedError
from metered_proto.events import Direct, Message, RequestReceived
from metered_proto.orders import Answer, Send, Tell

DOCS = Path(__file__).parents[2] / "docs"
OUTBOX = "0d52cb559bdf68d0"


def examples(page: str) -> list[Any]:
    found = re.findall(r"^```json\n(.*?)^```\n", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)
    return [json.loads(example) for example in found]


class TestTheOutbox:
    def test_an_object_and_any_other_value(self) -> None:
        an_object, a_number, _ = examples("outbox.md")
        assert json.loads(seal(b'{"temp":21.5}', id=f"{OUTBOX}-7", outbox=OUTBOX, seq=3)) == an_object
        assert json.loads(seal(b"21.5", id=f"{OUTBOX}-8", outbox=OUTBOX, seq=4)) == a_number
        assert unseal(an_object) == [Opened(OUTBOX, f"{OUTBOX}-7", 3, False, {"temp": 21.5})]
        assert unseal(a_number) == [Opened(OUTBOX, f"{OUTBOX}-8", 4, False, 21.5)]

    def test_a_batch(self) -> None:
        batch = examples("outbox.md")[2]
        stamps = [BatchStamp(f"{OUTBOX}-9", 5, redelivered=True), BatchStamp(f"{OUTBOX}-10", 6)]
        assert json.loads(seal_batch(OUTBOX, stamps, [b'{"temp":21.5}', b'{"temp":22.0}'])) == batch
        opened = [Opened(OUTBOX, f"{OUTBOX}-9", 5, True, {"temp": 21.5})]
        assert unseal(batch) == [*opened, Opened(OUTBOX, f"{OUTBOX}-10", 6, False, {"temp": 22.0})]

    def test_the_receiver_in_javascript_drops_the_same_repeats(self) -> None:
        node = shutil.which("node")
        if node is None:
            pytest.skip("node is not installed")
        page = (DOCS / "outbox.md").read_text()
        [script] = re.findall(r"^```js\n(.*?)^```\n", page, re.DOTALL | re.MULTILINE)
        functions = script[: script.index("\nconst stamp = ")]
        published = traffic(random.Random(7))
        drive = f"for (const data of {json.dumps(published)}) receive({{ channel: 'a', data }});"
        a_line_each = "console.log = (data) => process.stdout.write(JSON.stringify(data) + '\\n');"
        whole = f"{a_line_each}\n{functions}\n{drive}"
        done = subprocess.run([node, "-"], input=whole, capture_output=True, text=True, timeout=30, check=True)
        deduplicator = Deduplicator()
        received = [
            item.data
            for data in published
            for item in deduplicator.read(Message("a", "somebody", data))
            if isinstance(item, Delivery)
        ]
        assert [json.loads(line) for line in done.stdout.splitlines()] == received
        assert deduplicator.repeats > 50
        assert len(received) > 300


def traffic(draw: random.Random) -> list[Any]:
    """What comes of two outboxes that lose some messages, send some late and some again, and batch some."""
    published: list[Any] = []
    for outbox in ("aa", "bb"):
        sent: list[tuple[int, Any]] = []
        for seq in range(1, 301):
            if draw.random() < 0.1:
                continue  # lost, or late
            sent.append((seq, draw.choice([{"n": seq}, seq, None, {}, [seq]])))
        late = [(seq, seq) for seq in draw.sample(range(1, 301), 20) if seq not in dict(sent)]
        for seq, data in (*sent, *late):
            again = draw.random() < 0.3
            for redelivered in (False, True) if again else (False,):
                one = json.dumps(data).encode()
                if draw.random() < 0.2:
                    stamps = [BatchStamp(f"{outbox}-{seq}", seq, redelivered)]
                    published.append(json.loads(seal_batch(outbox, stamps, [one])))
                else:
                    sealed = seal(one, id=f"{outbox}-{seq}", outbox=outbox, seq=seq, redelivered=redelivered)
                    published.append(json.loads(sealed))
        published.append("past the outbox")
    return published


class TestQuestionsAndAnswers:
    def test_the_question(self) -> None:
        question, _, _ = examples("requests.md")
        requests = Requests(Entropy(1))
        [send] = requests.ask(0, 1, Request.of("peer", question["data"], 5.0), 1, 65_536)
        assert isinstance(send, Send)
        asked = json.loads(send.payload)["data"]
        assert asked.keys() == question.keys()
        assert asked["data"] == question["data"]
        requests.answer_requests(AnswerRequests().on)
        received = RequestReceived("peer", question["__meteredRequest"], question["data"])
        assert requests.direct(Direct("peer", question)) == [Tell(received)]

    def test_the_answers(self) -> None:
        question, good, bad = examples("requests.md")
        received = RequestReceived("peer", question["__meteredRequest"], question["data"])
        error = bad["error"]
        assert json.loads(bytes(reply(received, good["data"]).data)) == good
        assert json.loads(bytes(reply_error(received, error["code"], error["message"]).data)) == bad
        for shown, expected in (
            (good, Answer(1, good["data"])),
            (bad, Answer(1, error=RequestFailedError(error["code"], error["message"]))),
        ):
            requests = Requests(Entropy(1))
            [send] = requests.ask(0, 1, Request.of("peer", None, 5.0), 1, 65_536)
            assert isinstance(send, Send)
            ours = json.loads(send.payload)["data"]["__meteredRequest"]
            assert requests.direct(Direct("peer", {**shown, "__meteredReply": ours})) == [expected]
