"""Questions between our client and the published SDK, which knows them only as directs of a documented shape."""

from __future__ import annotations

from typing import Any

import pytest

from metered_anyio import RequestFailedError

pytestmark = pytest.mark.anyio

REQUEST, REPLY = "__meteredRequest", "__meteredReply"


async def test_we_ask_the_published_sdk(stage: Any) -> None:
    ours, published = await stage.visit("ours"), await stage.visit("published")

    async def answer(direct: Any) -> None:
        request_id, data = direct.data[REQUEST], direct.data["data"]
        outcome: dict[str, Any] = {"error": {"code": "refused", "message": "no"}} if data is None else {"data": [data]}
        await published.client.send(direct.sender_peer_id, {REPLY: request_id, **outcome})

    published.client.on(published.library.Direct, answer)
    assert await ours.client.request(published.peer_id, {"n": 1}) == [{"n": 1}]
    with pytest.raises(RequestFailedError) as caught:
        await ours.client.request(published.peer_id, None)
    assert caught.value == RequestFailedError("refused", "no")
    assert ours.directs == [], "an answer is no direct of the application's"


async def test_the_published_sdk_asks_us(stage: Any) -> None:
    ours, published = await stage.visit("ours"), await stage.visit("published")

    @ours.client.respond
    async def answer(question: Any) -> Any:
        if question.data is None:
            raise RequestFailedError("refused", "no")
        return {"you": question.sender_peer_id, "asked": question.data}

    for request_id, data in (("1", 7), ("a/b", [True]), ("x" * 128, None)):
        await published.client.send(ours.peer_id, {REQUEST: request_id, "data": data})
    await published.heard("Direct", 3)
    failure = {"code": "refused", "message": "no"}
    assert sorted(data[REPLY] for _, data in published.directs) == sorted(["1", "a/b", "x" * 128])
    by_id = {data[REPLY]: data for sender, data in published.directs if sender == ours.peer_id}
    assert by_id == {
        "1": {REPLY: "1", "data": {"you": published.peer_id, "asked": 7}},
        "a/b": {REPLY: "a/b", "data": {"you": published.peer_id, "asked": [True]}},
        "x" * 128: {REPLY: "x" * 128, "error": failure},
    }


async def test_what_only_looks_like_a_question_stays_a_direct(stage: Any) -> None:
    ours, published = await stage.visit("ours"), await stage.visit("published")
    ours.client.respond(lambda question: None)
    odd: list[Any] = [{REQUEST: "1"}, {REQUEST: 1, "data": 1}, {REQUEST: "x" * 129, "data": 1}]
    for data in odd:
        await published.client.send(ours.peer_id, data)
    await ours.heard("Direct", len(odd))
    assert [data for _, data in ours.directs] == odd
