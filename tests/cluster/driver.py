"""A cluster's run: its fleet on hosts of their own, one failure after the other, its verdict."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..chaos import driver
from ..chaos.driver import ChaosSettings, Outcome
from ..chaos.fleet import Fleet, FleetSettings
from ..chaos.process import ForkedProcess, Process
from ..chaos.schedule import Failure
from ..unit.cluster import manifests
from .autoscaler import Rule
from .failures import ClusterFailures, ClusterKind
from .network import NamespaceHost, network

FRONTS = ("front-a", "front-b")
WORKERS = ("worker-a", "worker-b")
HOSTS = (*FRONTS, *WORKERS, "redis", "spare")

# For how long a host is cut off, or none stands in its place.
SECONDS: Mapping[ClusterKind, float] = {
    ClusterKind.FRONTS_ROLLED: 0.0,
    ClusterKind.WORKERS_ROLLED: 0.0,
    ClusterKind.FRONT_CUT: 5.0,
    ClusterKind.WORKER_CUT: 5.0,
    ClusterKind.WORKER_DEAF: 5.0,
    ClusterKind.REDIS_CUT: 6.0,
    ClusterKind.REDIS_CUT_SHORTLY: 1.0,
    ClusterKind.WORKER_LOST: 4.0,
    ClusterKind.FRONT_LOST: 10.0,
    ClusterKind.SCALED: 0.0,
}
_MODEL = "chat"  # as the manifests' example has it
_OPEN = {
    "MIAO_ALLOW_ANONYMOUS": "yes",
    "MIAO_ALLOW_PLAINTEXT": "yes",
    "MIAO_QUEUE_WITHOUT_WORKER": "yes",
}


@dataclasses.dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What happens, in which order, under how much load.

    pause_seconds: before each, in which the fleet may recover from the one before.
    """

    seed: int
    folder: Path
    kinds: Sequence[ClusterKind] = tuple(ClusterKind)
    num_callers: int = 12
    num_specs: int = 16
    most_tokens: int = 600
    pause_seconds: float = 5.0
    worker_kind: type[Process] = ForkedProcess
    say: Callable[[str], None] = print


async def run(settings: ClusterSettings) -> Outcome:
    """Lay the cluster out, let all happen to it, judge. In a network namespace of its own."""
    with network(HOSTS) as hosts:
        return await driver.run(_chaos(settings, hosts))


def _rule() -> Rule:
    """How the manifests scale the workers of the model."""
    documents = manifests.render("autoscaling") if manifests.has_kubectl else manifests.written()
    return Rule.of(manifests.the(documents, "ScaledObject", f"worker-{_MODEL}"))


def _chaos(settings: ClusterSettings, hosts: Mapping[str, NamespaceHost]) -> ChaosSettings:
    def make_fleet(fleet: FleetSettings) -> Fleet:
        return Fleet(
            dataclasses.replace(
                fleet,
                redis_host=hosts["redis"],
                front_hosts=[hosts[name] for name in FRONTS],
                worker_hosts=[hosts[name] for name in WORKERS],
                front_environ={**fleet.front_environ, **_OPEN},
                model_name=_MODEL,
            )
        )

    class OnTheseHosts(ClusterFailures):
        spare = hosts["spare"]
        rule = _rule()

    return ChaosSettings(
        seed=settings.seed,
        seconds=0.0,
        folder=settings.folder,
        num_callers=settings.num_callers,
        num_specs=settings.num_specs,
        most_tokens=settings.most_tokens,
        worker_kind=settings.worker_kind,
        make_fleet=make_fleet,
        make_failures=OnTheseHosts,
        failures=[
            Failure(settings.pause_seconds, kind, number % 2, SECONDS[kind])
            for number, kind in enumerate(settings.kinds)
        ],
        say=settings.say,
    )
