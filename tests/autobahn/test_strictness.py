"""Tests the one rule by which a case of Autobahn may end NON-STRICT, with reports as the suite writes them."""

import pytest
from strictness import echo_was_overtaken

HELLO = ["message", "Hello, world!", False]


def case(good=(HELLO,), received=(), code=1002, expected_code=1002, by_suite=False):
    return {
        "expected": {"OK": list(good), "NON-STRICT": []}, "received": list(received), "remoteCloseCode": code,
        "expectedClose": {"closeCode": [expected_code], "closedByMe": by_suite, "requireClean": False},
    }  # fmt: skip


@pytest.mark.parametrize("received", [[], [HELLO], [HELLO, HELLO]])
def test_a_good_message_and_then_a_frame_that_breaks_the_protocol(received):
    assert echo_was_overtaken(case([HELLO, HELLO], received))


@pytest.mark.parametrize(
    "other",
    [
        # Another echo; more than was sent; another close; no close.
        case(received=[["message", "Hello", False]]), case(received=[HELLO, HELLO]), case(code=1007), case(code=None),
        # No good message was sent; the suite closes; the text is bad, and that is seen late.
        case(good=[]), case(by_suite=True), case(expected_code=1007, code=1007),
        case(good=[["timeout", "A"]], received=[["timeout", "A"], ["timeout", "B"]], expected_code=1007, code=1007),
        {**case(), "expected": {}},
    ],
)  # fmt: skip
def test_nothing_else_may_be_less_than_strict(other):
    assert not echo_was_overtaken(other)
