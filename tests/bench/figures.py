"""Rows of figures, with their medians, spreads and targets. Pure."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Row:
    group: str
    what: str
    subject: str
    unit: str
    samples: list  # a dict for each round; the main figure is called value
    note: str = ""
    waiting: int = None  # ingestions, where that is what the row is about
    targets: list = field(default_factory=list)

    def figures(self):
        """Of everything that was measured: median, least and most."""
        keys = dict.fromkeys(key for sample in self.samples for key in sample)
        return {key: spread([sample[key] for sample in self.samples if key in sample]) for key in keys}

    def want(self, what, value, least=None, most=None):
        """Remembers a target. Whether it is met is said, and nothing else depends on it."""
        if value is not None:
            met = value >= least if least is not None else value <= most
            wanted = f"≥ {number(least)}" if least is not None else f"≤ {number(most)}"
            self.targets.append({"what": what, "value": value, "wanted": wanted, "met": met})

    def median(self, key="value"):
        values = [sample[key] for sample in self.samples if key in sample]
        return statistics.median(values) if values else None


@dataclass
class Result:
    """Of one contender in a comparison: a sample for each round, and what kept it from more."""

    samples: list = field(default_factory=list)
    note: str = ""

    def values(self, key):
        return [{"value": sample[key]} for sample in self.samples if key in sample]


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def ratio(row, other, key="value"):
    """The median of the ratios round by round; None when there is nothing to compare."""
    pairs = list(zip(row.samples, other.samples))
    return statistics.median(a[key] / b[key] for a, b in pairs) if pairs else None


def number(value):
    """For people: three digits or more."""
    if value is None:
        return "–"
    if isinstance(value, int) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def percentile(ordered, share):
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def pace(arrivals, interval_ns, burst, slack_ns=2_000_000):
    """How well dispatches kept to the slots of their token bucket: shares, and milliseconds. A slot is open from the
    moment at which the bucket is full again less the credit that it then has; one that starts late by more than the
    slack moves those behind it, as the contract says."""
    credit = (burst - 1) * interval_ns
    full = first = arrivals[0]
    late = []
    for at in arrivals:
        lateness = at - max(first, full - credit)
        if lateness < 0:  # those before it were seen late
            full += lateness
            lateness = 0
        elif at - full > slack_ns:
            full = at
        late.append(lateness)
        full += interval_ns
    late.sort()
    return {
        "p50_ms": percentile(late, 0.5) / 1e6,
        "p99_ms": percentile(late, 0.99) / 1e6,
        "max_ms": late[-1] / 1e6,
        "early_ms": earliness(arrivals, interval_ns, burst) / 1e6,
        "used": (len(arrivals) - burst) * interval_ns / (arrivals[-1] - first),
    }


def earliness(arrivals, interval_ns, burst):
    """By how much the worst window is too short for what is in it (burst + rate·T): negative when none is."""
    earliest, farthest = None, None
    for last in range(burst, len(arrivals)):
        first = last - burst
        behind = arrivals[first] - first * interval_ns
        farthest = behind if farthest is None else max(farthest, behind)
        too_early = farthest + (first + 1) * interval_ns - arrivals[last]
        earliest = too_early if earliest is None else max(earliest, too_early)
    return earliest or 0
