"""What may grow between two moments, and by how much."""

from __future__ import annotations

from .sampling import Sample

# While the load is steady: share of what was there, and in units of the number.
_MEMORY = (0.10, 20.0)  # allocators keep what they once had
_FILES = (0.0, 5.0)
_THREADS = (0.0, 3.0)
# Once the load is over and what it left has expired: the lists that RQ and Miao keep
# for a queue, a worker, a front or a tenant, whatever the number of generations.
_KEYS = (0.0, 20.0)


def excess(before: Sample, after: Sample) -> list[str]:
    """What has grown further than it may, while the load was steady."""
    return [
        _sentence(name, before.values[name], value)
        for name, value in after.values.items()
        if name in before.values
        and (bound := _bound(name)) is not None
        and value > before.values[name] * (1 + bound[0]) + bound[1]
    ]


def leftovers(before: Sample, after: Sample) -> list[str]:
    """What is left of a load that is over."""
    return [
        _sentence(name, before.values.get(name, 0.0), value)
        for name, value in after.values.items()
        if name.startswith("redis: ") and value > _most_left(name, before.values.get(name, 0.0))
    ]


def _bound(name: str) -> tuple[float, float] | None:
    match name.rpartition(": ")[2]:
        case "MiB":
            return _MEMORY
        case "files":
            return _FILES
        case "threads":
            return _THREADS
    return None  # of Redis: judged when the load is over


def _most_left(name: str, before: float) -> float:
    share, units = _MEMORY if name.endswith("MiB") else _KEYS
    return before * (1 + share) + units


def _sentence(name: str, before: float, after: float) -> str:
    return f"{name} grew from {before:.0f} to {after:.0f}"
