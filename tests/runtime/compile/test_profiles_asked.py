"""Profiles and traffic: what users write, and what each segment is built for."""

from __future__ import annotations

from pathlib import Path

import pytest

from effbert.runtime import open_bundle
from effbert.runtime.compile.ports import Ports
from effbert.runtime.compile.profiles import (
    Profile,
    Shape,
    check_profiles,
    read_profile,
    segment_sizes,
    usual_profile,
)
from effbert.runtime.compile.traffic import plan_profiles, read_traffic, serve
from effbert.runtime.engines.plans.index import PlanPort
from effbert.runtime.errors import InputError
from tiny_bundle import build_tiny_bundle


def test_a_profile_is_three_batches():
    profile = read_profile("1x8, 8x64,32x128")
    assert profile == Profile(Shape(1, 8), Shape(8, 64), Shape(32, 128))
    assert str(profile) == "1x8,8x64,32x128"
    assert profile.holds(Shape(32, 8))
    assert not profile.holds(Shape(33, 8))


@pytest.mark.parametrize(
    "text, words",
    [
        ("1x8,8x64", "is not three batches"),
        ("1,8,32", "such as 1x8,8x64,32x128"),
        ("1x8,8x64,32x-1", "is not three batches"),
        ("8x8,1x64,32x128", "its rows are 8, 1, 32"),
        ("1x80,8x64,32x128", "its lengths are 80, 64, 128"),
        ("0x8,8x64,32x128", "expected numbers from 1"),
        ("1x8,8x64,32x999999", "to 65536"),
    ],
)
def test_other_profiles_are_refused(text: str, words: str):
    with pytest.raises(InputError, match=words):
        read_profile(text)


def test_lengths_are_those_of_the_model(tmp_path: Path):
    manifest = open_bundle(build_tiny_bundle(tmp_path / "bundle")).manifest
    assert str(usual_profile(manifest)) == "1x2,8x32,32x32"
    check_profiles([usual_profile(manifest)], manifest)
    with pytest.raises(InputError, match="the model reads rows of 2 to 32 tokens"):
        check_profiles([read_profile("1x8,8x64,32x128")], manifest)


def test_later_segments_see_fewer_rows_and_buffers_of_any_profile(tmp_path: Path):
    manifest = open_bundle(build_tiny_bundle(tmp_path / "bundle")).manifest
    names = (
        ("earlier_batch", "earlier_sequence", 8),
        ("batch", "sequence"),
        ("batch",),
    )
    roles = ("carry", "input", "rows")
    inputs = [
        PlanPort(name=role, dtype="int64", axes=[*axes], role=role, rows="rows" if k == 0 else None)
        for k, (role, axes) in enumerate(zip(roles, names, strict=True))
    ]
    profiles = [read_profile("1x4,1x8,1x16"), read_profile("2x4,8x16,32x32")]
    found = segment_sizes(Ports(inputs, [], []), profiles, manifest, 2, 0.5)
    assert found[1]["batch"] == (1, 2, 32)
    assert found[1]["sequence"] == (2, 16, 32)
    assert found[0]["batch"] == (1, 1, 1)
    for sizes in found:
        assert sizes["earlier_batch"][2] == 32
        assert sizes["earlier_sequence"] == (2, sizes["sequence"][1], 32)
    first = segment_sizes(Ports(inputs[1:2], [], []), profiles, manifest, 0, 0.5)
    assert first[1] == {"batch": (2, 8, 32), "sequence": (4, 16, 32)}


TRAFFIC = {Shape(1, 16): 500, Shape(1, 32): 300, Shape(8, 64): 150, Shape(32, 128): 50}


def test_profiles_for_traffic_hold_every_call_and_waste_less_the_more_they_are():
    wasted = []
    for most in (1, 2, 3, 4, 9):
        profiles = plan_profiles(TRAFFIC, most)
        assert len(profiles) == min(most, len(TRAFFIC))
        served, outside = serve(TRAFFIC, profiles)
        assert outside == 0
        assert sum(each.share for each in served) == pytest.approx(1)
        wasted.append(sum(each.share * each.waste for each in served))
    assert wasted == sorted(wasted, reverse=True)
    assert wasted[-1] == 0
    assert plan_profiles({Shape(4, 8): 1}, 3) == [Profile(*[Shape(4, 8)] * 3)]


def test_many_different_shapes_are_planned_for_too():
    traffic = {Shape(rows, length): 1 for rows in range(1, 40) for length in range(1, 40)}
    profiles = plan_profiles(traffic, 3)
    assert max(profile.most.rows for profile in profiles) >= 39


def test_calls_outside_every_profile_are_counted():
    served, outside = serve(TRAFFIC, [read_profile("1x8,1x16,8x64")])
    assert outside == pytest.approx(0.05)
    assert served[0].share == pytest.approx(0.95)


def test_traffic_is_csv_or_json_lines(tmp_path: Path):
    lines = tmp_path / "calls.jsonl"
    lines.write_text('{"batch": 8, "length": 64, "count": 3}\n\n{"batch": 8, "length": 64}\n')
    table = tmp_path / "calls.csv"
    table.write_text("length,batch,count\n64,8,4\n")
    assert read_traffic(lines) == read_traffic(table) == {Shape(8, 64): 4}


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("a.csv", "batch,length\n0,5\n", "line 2: expected whole numbers"),
        ("a.csv", "rows,length\n1,5\n", "line 2: expected whole numbers"),
        ("a.csv", "", "holds no traffic"),
        ("a.jsonl", "no json", "line 1 is no JSON"),
        ("a.jsonl", '{"batch": 1.5, "length": 3}', "line 1: expected whole numbers"),
        ("a.jsonl", '{"batch": true, "length": 3}', "line 1: expected whole numbers"),
        ("a.jsonl", "[1, 2]", "line 1: expected whole numbers"),
    ],
)
def test_other_traffic_is_refused(tmp_path: Path, name: str, text: str, words: str):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        read_traffic(tmp_path / name)
    with pytest.raises(InputError, match="cannot be read"):
        read_traffic(tmp_path / "missing.csv")
