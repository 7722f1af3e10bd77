"""What keys, rates and lists look like on the command line."""

from __future__ import annotations

import pytest

from metered_anyio.cli.common import Misuse
from metered_anyio.cli.grants import (
    check_seconds,
    parse_connect_rate,
    parse_key,
    parse_list,
    parse_object,
    parse_rate,
    parse_secret,
)
from metered_anyio.relay import PublishableKey, SecretKey


def test_a_key_alone_is_good_for_everything():
    assert parse_key("pk_live_x") == PublishableKey("pk_live_x")


def test_a_key_with_all_that_can_follow():
    text = "pk_live_x;channels=fleet/**, room-*;actions=publish,subscribe;origins=https://a.example,http://b:8080"
    assert parse_key(text) == PublishableKey(
        "pk_live_x",
        patterns=("fleet/**", "room-*"),
        permissions=("publish", "subscribe"),
        origins=("https://a.example", "http://b:8080"),
    )


def test_the_order_of_parts_and_an_equals_sign_in_a_pattern_do_not_matter():
    assert parse_key("pk_live_x; actions=send ;channels=a=b").patterns == ("a=b",)
    assert parse_key("pk_live_x; actions=send ;channels=a=b").permissions == ("send",)


def test_a_secret():
    assert parse_secret("sk_id_a:sk_secret_0123456789;,:") == SecretKey("sk_id_a", "sk_secret_0123456789;,:")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("100/200", (100.0, 200)), ("0.5/1", (0.5, 1)), ("100", (100.0, None)), ("off", (None, None))],
)
def test_a_rate(text, rate):
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "/", "0", "-1/2", "1/2/3", "1e3/1", "nan/1", "inf", "1/1.5", "OFF", "٣/4", " 1"])
def test_no_rate(text):
    with pytest.raises(Misuse, match="--rate must be"):
        parse_rate(text)


def test_a_connect_rate():
    assert parse_connect_rate("60") == 60
    assert parse_connect_rate("off") is None


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "many", "٣", "9999999999"])
def test_no_connect_rate(text):
    with pytest.raises(Misuse, match="--connect-rate must be"):
        parse_connect_rate(text)


def test_a_list():
    assert parse_list(" a ,b", "--x") == ("a", "b")
    with pytest.raises(Misuse, match="--x: an item is empty"):
        parse_list("", "--x")


def test_an_object():
    assert parse_object('{"a": [1, null]}', "--x") == {"a": [1, None]}


@pytest.mark.parametrize("text", ["", "[]", "null", "hunter2", '{"a":}', '{"a":' + "[" * 2000, "\udcff"])
def test_no_object(text):
    with pytest.raises(Misuse, match=r"^--x must be a JSON object$"):
        parse_object(text, "--x")


def test_seconds():
    assert check_seconds(0, "--x") == 0
    for wrong in (-0.1, float("nan"), float("inf")):
        with pytest.raises(Misuse, match="--x must be"):
            check_seconds(wrong, "--x")
