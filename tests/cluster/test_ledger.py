"""The judge finds what it is there for."""

import pytest
from ledger import GAP, Verdict, judge


def verdict(*numbers, count=4):
    return judge([("a", number) for number in numbers], {"a": count})


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ((1, 2, 3, 4), Verdict(told=4)),
        ((1, 2, 4), Verdict(told=3, lost=1)),
        ((1, 2, 3), Verdict(told=3, lost=1)),
        ((2, 3, 4), Verdict(told=3, lost=1)),
        ((), Verdict(lost=4)),
        ((1, 2, 2, 3, 4), Verdict(told=5, doubled=1)),
        ((1, 2, 3, 2, 4), Verdict(told=5, doubled=1)),
        ((1, 3, 2, 4), Verdict(told=4, unordered=1)),
        ((1, 2, GAP, 4), Verdict(told=3, gaps=1, announced=1)),
        ((1, GAP, 2, 4), Verdict(told=3, gaps=1, lost=1)),
        ((GAP, 3, 4), Verdict(told=2, gaps=1, announced=2)),
        ((1, 2, GAP), Verdict(told=2, gaps=1, announced=2)),
        ((1, 2, 3, GAP, 2, 4), Verdict(told=5, gaps=1, again=1)),
        ((1, 2, GAP, 2, 2, 3, 4), Verdict(told=6, gaps=1, again=1, doubled=1)),
        ((1, 2, GAP, 4, 3), Verdict(told=4, gaps=1)),
    ],
)
def test_a_judgement(seen, expected):
    assert verdict(*seen) == expected


def test_channels_are_apart():
    seen = [("a", 1), ("b", 1), ("b", GAP), ("a", 2), ("b", 3)]
    assert judge(seen, {"a": 2, "b": 3}) == Verdict(told=4, gaps=1, announced=1)
    with pytest.raises(AssertionError):
        judge([("c", 1)], {"a": 1})
