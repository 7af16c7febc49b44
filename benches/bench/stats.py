"""Medians with their spread, and ratios within a run."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Sample:
    """A metric's values in several rounds."""

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
    """The metric of each round that has it. A round that failed is None."""
    return Sample(tuple(r[metric] for r in rounds if r and r.get(metric) is not None))


def ratios(rounds, base_rounds, metric, base_metric=None):
    """One server's metric over another's, within each round. A slow minute of the machine affects both."""
    base_metric = base_metric or metric
    pairs = [(r, b) for r, b in zip(rounds, base_rounds) if r and b and r.get(metric) is not None]
    return Sample(tuple(r[metric] / b[base_metric] for r, b in pairs if b.get(base_metric)))
