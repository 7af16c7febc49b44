"""Medians with their spread, and ratios within a run."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """The same thing measured in several rounds."""

    values: tuple

    @property
    def median(self):
        return median(self.values)

    @property
    def low(self):
        return min(self.values)

    @property
    def high(self):
        return max(self.values)

    def __bool__(self):
        return bool(self.values)


def sample(rounds, metric):
    """That metric of each round that has it; a round that failed is None and has none."""
    return Sample(tuple(r[metric] for r in rounds if r and r.get(metric) is not None))


def ratios(rounds, base_rounds, metric, base_metric=None):
    """What one server used over what another used, in each round by itself: a machine's mood of a minute is in both."""
    base_metric = base_metric or metric
    pairs = [(r, b) for r, b in zip(rounds, base_rounds) if r and b and r.get(metric) is not None]
    return Sample(tuple(r[metric] / b[base_metric] for r, b in pairs if b.get(base_metric)))
