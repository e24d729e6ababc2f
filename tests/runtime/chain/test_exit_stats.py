"""What a session counts, and when it says that rows leave unlike the examples of their point."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from effbert.runtime import PointStats, Session, open_bundle
from effbert.runtime.bundle.folder import replace_manifest
from effbert.runtime.bundle.manifest import Exits, OperatingPoint
from tiny_bundle import VOCABULARY

IDS = {"input_ids": np.random.default_rng(0).integers(5, len(VOCABULARY), (64, 9))}


@pytest.fixture
def session(bundle: Path) -> Iterator[Session]:
    opened = open_bundle(bundle)
    with Session(opened) as trial:
        half = float(np.median(trial.run_exits(IDS).signal[0]))
        result = trial.run(IDS, {"threshold": half})
    layers, counts = np.unique(result.exit_layer, return_counts=True)
    exits = Exits(
        layers={str(layer): int(count) for layer, count in zip(layers, counts, strict=True)},
        signal=(float(result.signal.mean()), float(result.signal.std())),
    )
    points = [
        OperatingPoint(name="fitted", knobs={"threshold": half}, data="ids", exits=exits),
        OperatingPoint(name="old", knobs={"threshold": 0.9}, data="ids"),
    ]
    changed = msgspec.structs.replace(opened.manifest, operating_points=points)
    with Session(replace_manifest(opened, changed), operating_point="fitted") as found:
        yield found


def test_rows_are_counted_by_point_and_layer(session: Session) -> None:
    result = session.run(IDS)
    session.run({"input_ids": IDS["input_ids"][:1]}, operating_point="old")
    session.run(IDS, {"threshold": 0.0})
    stats = session.stats()
    assert set(stats) == {"fitted", "old", "other"}
    fitted = stats["fitted"]
    assert fitted.layers == {
        layer: count for layer in (1, 2, 3) if (count := (result.exit_layer == layer).sum())
    }
    assert fitted.mean_layer == pytest.approx(result.exit_layer.mean())
    assert fitted.mean_signal == pytest.approx(result.signal.mean(), rel=1e-5)
    assert stats["old"].rows == 1
    assert stats["other"].layers == {3: 64}


def test_a_point_of_the_call_takes_the_place_of_that_of_the_session(session: Session) -> None:
    by_point = session.run(IDS, operating_point="old")
    by_knob = session.run(IDS, {"threshold": 0.9})
    assert by_point.logits.tobytes() == by_knob.logits.tobytes()
    assert by_point.exit_layer.tolist() != session.run(IDS).exit_layer.tolist()
    texts = session(["good film"], operating_point="old")
    assert texts[0].exit_layer == session(["good film"], {"threshold": 0.9})[0].exit_layer
    with pytest.raises(Exception, match="Unknown operating point 'new'; this bundle has: 'fitted'"):
        session.run(IDS, operating_point="new")


def test_rows_like_the_examples_do_not_drift(session: Session) -> None:
    session.run(IDS)
    assert session.stats()["fitted"].drift is None


def test_rows_that_leave_elsewhere_drift(session: Session) -> None:
    result = session.run(IDS)
    deep = result.exit_layer == result.exit_layer.max()
    for _ in range(10):
        session.run({"input_ids": IDS["input_ids"][deep]})
    drift = session.stats()["fitted"].drift
    assert drift is not None
    assert "64 examples" in drift


def test_points_without_counts_of_their_examples_say_nothing(session: Session) -> None:
    session.run(IDS, operating_point="old")
    assert session.stats()["old"].drift is None


def test_the_difference_of_two_times_is_what_happened_between(session: Session) -> None:
    session.run(IDS)
    before = session.stats()
    session.run({"input_ids": IDS["input_ids"][:5]})
    assert (session.stats() - before)["fitted"].rows == 5


def test_deadline_hits_are_counted(session: Session) -> None:
    hits = session.run(IDS, {"threshold": 0.0}, deadline_ms=0).deadline_hit.sum()
    assert hits == session.stats()["other"].deadline_hits == 64


def test_samples_are_named_for_a_metrics_exporter(session: Session) -> None:
    session.run(IDS)
    samples = {(each.name, *each.labels.values()): each.value for each in session.stats().samples()}
    layers = session.stats()["fitted"].layers
    assert samples["effbert_exits_total", "fitted", str(min(layers))] == layers[min(layers)]
    assert samples["effbert_signal_count", "fitted"] == 64
    assert samples["effbert_drift", "fitted"] == 0


def test_threads_lose_no_row(session: Session) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: session.run(IDS), range(40)))
    assert session.stats()["fitted"].rows == 40 * 64


@pytest.mark.parametrize("shift, alarms", [(0.0, (0, 5)), (0.15, (990, 1000))])
def test_chance_raises_few_alarms_and_a_shift_many(shift: float, alarms: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    moved = shares + shift * np.array([-1, 0.5, 0.5, 0])
    found = 0
    for _ in range(1000):
        fitted = Exits(
            layers={str(k): int(n) for k, n in enumerate(random.multinomial(500, shares), 1)}
        )
        layers = dict(enumerate(random.multinomial(2000, moved).tolist(), 1))
        found += PointStats(layers, fitted=fitted).drift is not None
    assert alarms[0] <= found <= alarms[1]


def test_a_mean_signal_that_moves_is_drift() -> None:
    fitted = Exits(layers={"1": 500}, signal=(0.30, 0.1))
    same = PointStats({1: 1000}, 1000, 301.0, 100.0, fitted=fitted)
    moved = PointStats({1: 1000}, 1000, 400.0, 170.0, fitted=fitted)
    assert same.drift is None
    assert moved.drift is not None
    assert "0.4" in moved.drift
