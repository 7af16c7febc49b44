"""What was published, what each subscriber was told, and what follows from both.

Messages of a channel are numbered from 1 by their publisher, which publishes a number only when the one before is
acknowledged. So a subscriber gets them in this order, each once, unless it is told of a gap.
"""

import collections
import dataclasses

GAP = None


@dataclasses.dataclass
class Verdict:
    """What became of the messages, at one subscriber or at all."""

    told: int = 0
    # Missing, with no gap in their place.
    lost: int = 0
    # Told again, with no gap between the first time and this one.
    doubled: int = 0
    # Told behind a later message, with no gap before.
    unordered: int = 0
    gaps: int = 0
    # Missing, with a gap in their place.
    announced: int = 0
    # Told again behind a gap.
    again: int = 0

    def __add__(self, other):
        return Verdict(*(sum(pair) for pair in zip(dataclasses.astuple(self), dataclasses.astuple(other))))

    @property
    def is_good(self):
        return not (self.lost or self.doubled or self.unordered)


def judge(seen, published):
    """`seen`: pairs of channel and number, as they came; GAP in place of a number. `published`: counts by channel."""
    of = collections.defaultdict(list)
    for channel, number in seen:
        of[channel].append(number)
    strange = set(of) - set(published)
    assert not strange, f"messages of {strange}"
    return sum((judge_channel(of[channel], count) for channel, count in published.items()), Verdict())


def judge_channel(seen, count):
    verdict, first, segment_of, gaps = Verdict(), {}, {}, []
    greatest = 0
    for place, number in enumerate(seen):
        if number is GAP:
            gaps.append(place)
            continue
        assert 1 <= number <= count, f"number {number} of {count}"
        verdict.told += 1
        if number in segment_of:
            if segment_of[number] == len(gaps):
                verdict.doubled += 1
            else:
                verdict.again += 1
        else:
            first[number] = place
            # Behind a gap may come what hubs appended again, in an order of its own.
            verdict.unordered += number < greatest and not gaps
            greatest = max(greatest, number)
        segment_of[number] = len(gaps)
    verdict.gaps = len(gaps)
    missing = [number for number in range(1, count + 1) if number not in first]
    for number in missing:
        if is_announced(number, first, gaps, count, len(seen)):
            verdict.announced += 1
        else:
            verdict.lost += 1
    return verdict


def is_announced(number, first, gaps, count, end):
    """Whether there is a gap between the neighbours of a missing message."""
    before = next((first[n] for n in range(number - 1, 0, -1) if n in first), -1)
    after = next((first[n] for n in range(number + 1, count + 1) if n in first), end)
    return any(min(before, after) < gap < max(before, after) for gap in gaps)
