"""Threads follow what the process may use, not what the machine has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from effbert.runtime import Session
from effbert.runtime.engines.threads import Threads, choose_threads, cpu_quota

V2 = "30 23 0:26 {root} {mount} rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} {mount} rw,relatime - cgroup cgroup rw,cpu,cpuacct"
OTHERS = "22 27 0:21 / /proc rw,relatime - proc proc rw\n"
OTHERS += "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset"


def machine(folder: Path, cgroup: str, mounts: str, files: dict[str, str], cores: int = 8) -> Path:
    """A root folder with `proc` and `sys` of a machine, whose cores have two CPUs each."""
    files = files | {"proc/self/cgroup": cgroup, "proc/self/mountinfo": f"{OTHERS}\n{mounts}\n"}
    for cpu in range(2 * cores):
        name = f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        files[name] = f"{cpu % cores},{cpu % cores + cores}\n"
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


MOUNT = "sys/fs/cgroup"
QUOTAS = {
    "none": ("0::/a\n", "/", {"a/cpu.max": "max 100000\n"}, None),
    "own": ("0::/a/b\n", "/", {"a/b/cpu.max": "150000 100000\n"}, 1.5),
    "of a parent": ("0::/a/b\n", "/", {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max"}, 0.5),
    "the smallest": ("0::/a/b\n", "/", {"a/cpu.max": "30 10", "a/b/cpu.max": "40 10"}, 3),
    "namespace of a container": ("0::/\n", "/", {"cpu.max": "200000 100000\n"}, 2),
    "mount of a container": ("0::/docker/x\n", "/docker/x", {"cpu.max": "200000 100000\n"}, 2),
    "mount below": ("0::/docker/x/y\n", "/docker/x", {"y/cpu.max": "200000 100000\n"}, 2),
    "outside of the mount": ("0::/../../z\n", "/", {"cpu.max": "200000 100000\n"}, 2),
    "other group": ("0::/a\n", "/", {"b/cpu.max": "100000 100000\n"}, None),
    "a file that says nothing": ("0::/a\n", "/", {"a/cpu.max": "\n"}, None),
}  # fmt: skip


@pytest.mark.parametrize("name", QUOTAS)
def test_the_quota_of_version_2_counts(tmp_path: Path, name: str) -> None:
    cgroup, root, files, expected = QUOTAS[name]
    found = machine(
        tmp_path,
        cgroup,
        V2.format(root=root, mount=f"/{MOUNT}"),
        {f"{MOUNT}/{file}": text for file, text in files.items()},
    )
    assert cpu_quota(found) == expected


@pytest.mark.parametrize(
    "quota, period, expected", [("-1", "100000", None), ("250000", "100000", 2.5), ("5", "10", 0.5)]
)
def test_the_quota_of_version_1_counts(
    tmp_path: Path, quota: str, period: str, expected: float | None
) -> None:
    folder = f"{MOUNT}/cpu,cpuacct/docker/x"
    files = {f"{folder}/cpu.cfs_quota_us": quota, f"{folder}/cpu.cfs_period_us": period}
    mount = V1.format(root="/", mount=f"/{MOUNT}/cpu,cpuacct")
    cgroup = "4:memory:/other\n3:cpu,cpuacct:/docker/x\n0::/\n"
    assert cpu_quota(machine(tmp_path, cgroup, mount, files)) == expected


def test_a_system_without_control_groups_has_no_quota(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    "asked, allowed, quota, expected",
    [
        (None, 16, "max 100000", "8: the physical cores"),
        (None, 12, "max 100000", "8: the physical cores"),
        (None, 2, "max 100000", "2: the CPUs this process may use"),
        (None, 16, "100000 100000", "1: the quota of the cgroup (1 CPUs)"),
        (None, 16, "150000 100000", "2: the quota of the cgroup (1.5 CPUs)"),
        (None, 16, "20000 100000", "1: the quota of the cgroup (0.2 CPUs)"),
        (None, 1, "400000 100000", "1: the CPUs this process may use"),
        (4, 1, "100000 100000", "4: asked for"),
    ],
)
def test_the_number_and_its_reason_are_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: int | None,
    allowed: int,
    quota: str,
    expected: str,
) -> None:
    root = machine(
        tmp_path, "0::/a", V2.format(root="/", mount=f"/{MOUNT}"), {f"{MOUNT}/a/cpu.max": quota}
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(allowed)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: allowed, raising=False)
    assert str(choose_threads(asked, root)) == expected


def test_where_nothing_is_known_the_engine_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.delattr(os, "process_cpu_count", raising=False)
    assert choose_threads(root=tmp_path) == Threads(None, "the engine's own choice")


COUNT = """
import os, sys
if sys.argv[3] == "1":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from effbert.runtime import Session
def tasks():
    return len(os.listdir("/proc/self/task"))
threads = eval(sys.argv[4])
Session(sys.argv[1], sys.argv[2], threads=1).run({"input_ids": [[2, 5, 3]]})  # what comes once
before = tasks()
session = Session(sys.argv[1], sys.argv[2], threads=threads)
session.run({"input_ids": [[2, 5, 6, 3]] * 64})
print(session.threads)
print(tasks() - before)
"""


@pytest.mark.parametrize(
    "asked, threads, more", [(None, "1: the CPUs this process may use", 0), (3, "3: asked for", 2)]
)
def test_a_session_starts_as_many_threads_as_its_process_may_use(
    pristine: Path, asked: int | None, threads: str, more: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(pristine), "onnxruntime", "1", repr(asked)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [threads, str(more)]


@pytest.mark.parametrize("asked", [None, 1])
def test_openvino_is_told_the_number(
    pristine: Path, monkeypatch: pytest.MonkeyPatch, asked: int | None
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(os, "process_cpu_count", lambda: 1, raising=False)
    with Session(pristine, "openvino", threads=asked) as session:
        assert session.threads.number == 1
        assert session._engine._properties["INFERENCE_NUM_THREADS"] == 1
