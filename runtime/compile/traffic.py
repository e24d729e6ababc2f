"""A histogram of the batches that come: which profiles serve them, and how well."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from effbert.runtime.compile.profiles import LARGEST, Profile, Shape
from effbert.runtime.errors import InputError

COLUMNS = ("batch", "length", "count")
MOST_SHAPES = 256  # that profiles are planned for
MAX_BYTES = 64 << 20


class Served(NamedTuple):
    """What a profile does for the traffic.

    Attributes:
        profile: Which.
        share: Of the calls.
        waste: How far these calls are from the shape that kernels are chosen for, from 0 to 1: the
            mean of 1 minus the smaller number of tokens over the larger one.
    """

    profile: Profile
    share: float
    waste: float


def read_traffic(path: Path) -> dict[Shape, int]:
    """Read a histogram: a .csv with the columns batch, length and count, or JSON lines with these.

    A missing count is 1.

    Raises:
        InputError: The file cannot be read, or a line is no such thing.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB; give a histogram.")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise InputError(f"{path} cannot be read: {reason}.") from error
    traffic: dict[Shape, int] = {}
    for line, record in _records(path, text):
        shape, count = _entry(f"{path}, line {line}", record)
        traffic[shape] = traffic.get(shape, 0) + count
    if not traffic:
        raise InputError(f"{path} holds no traffic; give lines with batch, length and count.")
    return traffic


def _records(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    if path.suffix.lower() == ".csv":
        reader = csv.DictReader(text.splitlines())
        yield from ((reader.line_num, record) for record in reader)
        return
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except ValueError:
                raise InputError(
                    f"{path}, line {number} is no JSON; write "
                    '{"batch": 8, "length": 64, "count": 100}, or name the file .csv.'
                ) from None


def _entry(where: str, record: Any) -> tuple[Shape, int]:
    given = {**record} if isinstance(record, dict) else {}
    given.setdefault("count", 1)
    try:
        rows, length, count = (_whole(given[name]) for name in COLUMNS)
    except (KeyError, TypeError, ValueError):
        rows = 0
    if not (1 <= rows <= LARGEST and 1 <= length <= LARGEST and count >= 0):
        raise InputError(
            f"{where}: expected whole numbers batch and length from 1 to {LARGEST}, and count."
        )
    return Shape(rows, length), count


def _whole(value: Any) -> int:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(value)
    return int(value)


def plan_profiles(traffic: dict[Shape, int], most: int) -> list[Profile]:
    """Choose profiles for a histogram: groups of calls with about as many tokens.

    Args:
        traffic: Shape -> how often.
        most: How many profiles at most; each makes plans larger and slower to build.

    Returns:
        They hold every call; neighbouring groups are merged where another profile gains nothing.
    """
    shapes = _coarse(traffic)
    calls = sorted(shapes, key=lambda shape: (shape.tokens, shape))
    waste = {
        (start, end): _group(calls[start:end], shapes)[1]
        for start in range(len(calls))
        for end in range(start + 1, len(calls) + 1)
    }
    # best[k][end]: the least waste of the first `end` shapes in k groups, and where the last starts
    best: list[dict[int, tuple[float, int]]] = [{0: (0.0, 0)}]
    for _ in range(min(most, len(calls))):
        before = best[-1]
        best.append(
            {
                end: min(
                    (before[start][0] + waste[start, end], start) for start in before if start < end
                )
                for end in range(1, len(calls) + 1)
                if any(start < end for start in before)
            }
        )
    groups = min(
        (k for k in range(1, len(best)) if len(calls) in best[k]),
        key=lambda k: (round(best[k][len(calls)][0], 6), k),
    )
    profiles, end = [], len(calls)
    for k in range(groups, 0, -1):
        start = best[k][end][1]
        profiles.append(_profile(calls[start:end], shapes))
        end = start
    return profiles[::-1]


def _coarse(traffic: dict[Shape, int]) -> dict[Shape, int]:
    """Round shapes up until there are few enough."""
    step, shapes = 1, traffic
    while len(shapes) > MOST_SHAPES:
        step *= 2
        shapes = {}
        for shape, count in traffic.items():
            rounded = Shape(*(-(-size // step) * step for size in shape))
            shapes[rounded] = shapes.get(rounded, 0) + count
    return shapes


def _group(calls: Sequence[Shape], counts: dict[Shape, int]) -> tuple[Shape, float]:
    """Return the usual shape of a group, the median call, and its waste times its calls."""
    half, total = sum(counts[shape] for shape in calls) / 2, 0
    usual = calls[-1]
    for shape in calls:
        total += counts[shape]
        if total >= half:
            usual = shape
            break
    return usual, sum(counts[shape] * _distance(shape, usual) for shape in calls)


def _profile(calls: Sequence[Shape], counts: dict[Shape, int]) -> Profile:
    usual, _ = _group(calls, counts)
    rows = [shape.rows for shape in calls]
    lengths = [shape.length for shape in calls]
    return Profile(Shape(min(rows), min(lengths)), usual, Shape(max(rows), max(lengths)))


def _distance(shape: Shape, usual: Shape) -> float:
    return 1 - min(shape.tokens, usual.tokens) / max(shape.tokens, usual.tokens)


def serve(traffic: dict[Shape, int], profiles: Sequence[Profile]) -> tuple[list[Served], float]:
    """Say what each profile does for the traffic.

    Returns:
        One entry a profile, and the share of the calls that none holds.
    """
    calls: list[list[tuple[int, float]]] = [[] for _ in profiles]
    lost, total = 0, sum(traffic.values()) or 1
    for shape, count in traffic.items():
        holding = [k for k, profile in enumerate(profiles) if profile.holds(shape)]
        if not holding:
            lost += count
            continue
        # As the chain chooses: the smallest that holds the call.
        chosen = min(holding, key=lambda k: profiles[k].most.tokens)
        calls[chosen].append((count, _distance(shape, profiles[chosen].usual)))
    served = []
    for profile, found in zip(profiles, calls, strict=True):
        number = sum(count for count, _ in found)
        waste = sum(count * each for count, each in found) / (number or 1)
        served.append(Served(profile, number / total, waste))
    return served, lost / total
