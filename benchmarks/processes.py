"""What the processes of a stack use, each by its part; of the stacks this process has started."""

from __future__ import annotations

import time

import psutil

PARTS = ("caller", "front", "redis", "worker", "engine")
_REDIS = ("valkey-server", "redis-server")


def cpu_seconds() -> dict[str, float]:
    """CPU time that each part has used so far; the caller is this process."""
    used = dict.fromkeys(PARTS, 0.0)
    for part, process in _processes():
        times = process.cpu_times()  # in ticks of 10 ms
        used[part] += times.user + times.system
    return used | {"caller": time.process_time()}


def memory_mib() -> dict[str, dict[str, float]]:
    """Of each part: resident, and the proportional share where pages are shared (MiB)."""
    held: dict[str, dict[str, float]] = {}
    for part, process in _processes():
        memory = process.memory_full_info()
        row = held.setdefault(part, {"rss": 0.0, "pss": 0.0})
        row["rss"] = round(row["rss"] + memory.rss / 2**20, 1)
        row["pss"] = round(row["pss"] + memory.pss / 2**20, 1)
    return held


def _processes() -> list[tuple[str, psutil.Process]]:
    children = psutil.Process().children(recursive=True)
    found = [(part_of(child.name(), child.cmdline()), child) for child in children]
    return [(part, child) for part, child in found if part is not None]


def part_of(name: str, command: list[str]) -> str | None:
    """Which part a process is, by its name and command; None for what is none."""
    if name == "miao-engine":
        return "engine"
    if any(program in word for word in command[:1] for program in _REDIS) or name in _REDIS:
        return "redis"
    if "miao_service" in command:
        return "front"
    line = " ".join(command)
    if "miao_worker" in command or "paced_worker" in line or "multiprocessing" in line:
        return "worker"  # and what forks its engines
    return None
