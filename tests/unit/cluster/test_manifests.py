"""The manifests say what the code does; a mistake of each kind is found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from deploy.monitoring.prometheus_rule import resource

from miao_queue import access

from . import agreement
from .manifests import (
    FOLDER,
    OVERLAYS,
    ROOT,
    Document,
    has_kubectl,
    of_kind,
    render,
    the,
    workloads,
    written,
)

Check = Callable[[Sequence[Document]], Iterator[str]]

needs_kubectl = pytest.mark.skipif(not has_kubectl, reason="kubectl is not here")
ALONE = (agreement.ports, agreement.probes, agreement.grace, agreement.security, agreement.images)


@pytest.fixture(scope="module")
def base() -> list[Document]:
    """The base as it is written: whole resources, before any overlay."""
    base = [each for each in written() if each["kind"] != "ConfigMap"]
    whole = [each for each in base if "selector" in each.get("spec", {})]
    services = yaml.safe_load((FOLDER / "base/service/kustomization.yaml").read_text("utf-8"))
    maps = [
        {
            "kind": "ConfigMap",
            "metadata": {"name": each["name"]},
            "data": dict(literal.split("=", 1) for literal in each["literals"]),
        }
        for each in services["configMapGenerator"]
    ]
    maps[0]["data"] |= {"MIAO_ALLOW_ANONYMOUS": "yes", "MIAO_ALLOW_PLAINTEXT": "yes"}
    the(whole, "Deployment", "gateway")["spec"]["template"]["spec"]["containers"][0]["args"] += [
        "--allow-plaintext"  # what overlays say
    ]
    return whole + maps


@pytest.mark.parametrize("check", ALONE, ids=lambda check: check.__name__)
def test_the_base_agrees_with_the_code_also_where_kubectl_is_not(
    base: list[Document], check: Check
) -> None:
    assert list(check(base)) == []


def test_every_setting_that_is_written_anywhere_is_one_of_the_code() -> None:
    names = {
        name
        for each in of_kind(written(), "ConfigMap")
        for name in each["data"]
        if name.startswith("MIAO_")
    }
    known = agreement._known_names("front") | agreement._known_names("gateway")
    assert names
    assert names <= known


@needs_kubectl
@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("check", agreement.CHECKS, ids=lambda check: check.__name__)
def test_an_overlay_agrees_with_the_code(overlay: str, check: Check) -> None:
    assert list(check(render(overlay))) == []


@needs_kubectl
@pytest.mark.parametrize("overlay", ["laptop", "production", "autoscaling"])
def test_what_is_monitored_is_there(overlay: str) -> None:
    assert list(agreement.monitors(render("monitoring"), render(overlay))) == []


def test_the_operators_rules_are_those_of_prometheus() -> None:
    folder = ROOT / "deploy/monitoring"
    rules = (folder / "rules.yml").read_text("utf-8")
    made = (folder / "prometheus-rule.yaml").read_text("utf-8")
    assert made == resource(rules), "run `make monitoring`"
    assert yaml.safe_load(made)["spec"] == yaml.safe_load(rules)


def test_the_laptops_users_of_redis_are_those_of_the_code_with_its_passwords() -> None:
    folder = FOLDER / "overlays/laptop"
    text = (folder / "kustomization.yaml").read_text("utf-8")
    urls = [urlsplit(url) for url in re.findall(r"-url=(\S+)", text)]
    passwords = {url.username: url.password for url in urls}
    lines = (folder / "users.acl").read_text("utf-8").splitlines()
    assert {"miao-front", "miao-worker"} <= passwords.keys()
    for user in access.USERS:
        if user.name == "miao-scaler":
            continue
        digest = hashlib.sha256(passwords.get(user.name, "laptop").encode()).hexdigest()
        assert user.line().replace(f"{user.name.upper()}_SHA256", digest) in lines
    others = [line for line in lines if not line.startswith("user miao-")]
    assert others == ["user default on nopass sanitize-payload resetkeys resetchannels -@all +ping"]


def test_the_small_redis_is_what_the_guarantees_ask_for() -> None:
    lines = (FOLDER / "components/redis/valkey.conf").read_text("utf-8").splitlines()
    options = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    assert options["appendonly"] == "yes"
    assert options["appendfsync"] == "always"
    assert options["maxmemory-policy"] == "noeviction"


def container(documents: Sequence[Document], name: str) -> Document:
    found: Document = the(documents, "Deployment", name)["spec"]["template"]["spec"]["containers"][
        0
    ]
    return found


def at(start: Any, *path: str | int) -> Any:
    for step in path:
        start = start[step]
    return start


def setting(name: str, value: str) -> Callable[[list[Document]], None]:
    return lambda docs: the(docs, "ConfigMap", "front")["data"].update({name: value})


def pod(name: str, /, **changes: Any) -> Callable[[list[Document]], None]:
    return lambda docs: the(docs, "Deployment", name)["spec"]["template"]["spec"].update(changes)


def part(name: str, /, *path: str | int, **changes: Any) -> Callable[[list[Document]], None]:
    return lambda docs: at(container(docs, name), *path).update(changes)


def spec(
    kind: str, name: str, /, *path: str | int, **changes: Any
) -> Callable[[list[Document]], None]:
    return lambda docs: at(the(docs, kind, name)["spec"], *path).update(changes)


def gone(kind: str, name: str) -> Callable[[list[Document]], None]:
    return lambda docs: docs.remove(the(docs, kind, name))


MISTAKES: list[tuple[Check, Callable[[list[Document]], None], str]] = [
    (agreement.settings, setting("MIAO_DRAIN_SECOND", "3"), "no setting MIAO_DRAIN_SECOND"),
    (agreement.settings, setting("MIAO_DURABILITY", "often"), "--durability must be"),
    (agreement.settings, setting("MIAO_TLS_KEY", ""), "need each other"),
    (
        agreement.settings,
        lambda docs: container(docs, "worker-chat")["args"].append("--drain=3s"),
        "does not take",
    ),
    (agreement.ports, setting("MIAO_METRICS_LISTEN", "0.0.0.0:9999"), "listens on"),
    (agreement.ports, setting("MIAO_HEALTH_LISTEN", "50052"), "listens on"),
    (
        agreement.ports,
        spec("Service", "front", "ports", 0, targetPort="gprc"),
        "front: no port gprc",
    ),
    (agreement.ports, spec("Service", "front", "ports", 0, port=50050), "headless 50050 is 50051"),
    (
        agreement.ports,
        spec("NetworkPolicy", "gateway", "ingress", 0, "ports", 0, port=8081),
        "nobody listens on 8081",
    ),
    (
        agreement.ports,
        spec("Service", "front", "ports", 0, appProtocol="kubernetes.io/h2c"),
        "does not speak kubernetes.io/h2c",
    ),
    (agreement.probes, part("front", "livenessProbe", "grpc", service=""), "asks for ''"),
    (agreement.probes, part("front", "readinessProbe", "grpc", port=50051), "not ask at 50052"),
    (
        agreement.probes,
        part("worker-chat", "startupProbe", "grpc", service="tiny"),
        "asks for 'tiny'",
    ),
    (agreement.probes, part("gateway", "readinessProbe", "httpGet", path="/ready"), "asks for /r"),
    (agreement.probes, part("gateway", "livenessProbe", "httpGet", scheme="HTTP"), "speak HTTPS"),
    (agreement.grace, pod("front", terminationGracePeriodSeconds=30), "has 30 s to end and needs"),
    (agreement.grace, setting("MIAO_DRAIN_SECONDS", "40"), "needs 56"),
    (agreement.grace, pod("worker-embed", terminationGracePeriodSeconds=30), "needs 40"),
    (agreement.grace, part("gateway", lifecycle={}), "before callers know"),
    (
        agreement.references,
        part("front", "env", 0, "valueFrom", "secretKeyRef", key="url"),
        "key url of the secret miao-redis",
    ),
    (agreement.references, pod("front", serviceAccountName="fronts"), "no ServiceAccount fronts"),
    (agreement.references, gone("PriorityClass", "miao-worker"), "no PriorityClass miao-worker"),
    (
        agreement.references,
        spec("TriggerAuthentication", "redis", "secretTargetRef", 1, key="user"),
        "nobody knows of its key user",
    ),
    (agreement.files, setting("MIAO_TLS_KEY", "/etc/miao/tls/key.pem"), "key.pem is not mounted"),
    (
        agreement.selectors,
        spec("PodDisruptionBudget", "front", "selector", "matchLabels", app="x"),
        "PodDisruptionBudget front selects nothing",
    ),
    (
        agreement.selectors,
        lambda docs: at(
            the(docs, "Deployment", "worker-chat")["spec"], "selector", "matchLabels"
        ).pop("app.kubernetes.io/instance"),
        "selects ['worker-chat', 'worker-embed']",
    ),
    (agreement.security, part("front", "securityContext", readOnlyRootFilesystem=False), "write"),
    (agreement.security, pod("gateway", securityContext={"runAsUser": 0}), "run as 10001"),
    (agreement.security, part("front", "securityContext", capabilities={}), "keeps capabilities"),
    (
        agreement.images,
        lambda docs: container(docs, "front").update(image="r/miao/front:9.9"),
        "is not 0.1.0",
    ),
    (
        agreement.images,
        lambda docs: container(docs, "front").update(image="r/miao/gateway:0.1.0"),
        "is not made for service",
    ),
    (
        agreement.images,
        lambda docs: container(docs, "worker-chat").update(image="r/miao/worker:0.1.0"),
        "its image and its GPU do not fit",
    ),
    (agreement.network, gone("NetworkPolicy", "nobody"), "is open by default"),
    (
        agreement.scaling,
        spec("ScaledObject", "worker-chat", "triggers", 0, "metadata", listName="rq:queue:c:high"),
        "counts",
    ),
    (
        agreement.scaling,
        spec("ScaledObject", "worker-chat", "advanced", "scalingModifiers", formula="waiting_low"),
        "not the sum",
    ),
    (
        agreement.scaling,
        spec("ScaledObject", "worker-chat", "advanced", "scalingModifiers", target="500"),
        "no 500 at once",
    ),
    (agreement.scaling, spec("ScaledObject", "worker-e", "scaleTargetRef", name="x"), "no x"),
    (agreement.scaling, setting("MIAO_QUEUE_WITHOUT_WORKER", "no"), "refuses what would call"),
    (agreement.scaling, setting("MIAO_FORGET_MODEL_SECONDS", "86400"), "soon forgets"),
    (agreement.scaling, spec("Deployment", "worker-chat", replicas=2), "are set and scaled"),
]


@needs_kubectl
@pytest.mark.parametrize(
    ("check", "plant", "expected"), MISTAKES, ids=[mistake[2] for mistake in MISTAKES]
)
def test_a_mistake_is_found(
    check: Check, plant: Callable[[list[Document]], Any], expected: str
) -> None:
    documents = render("autoscaling")
    plant(documents)
    found = list(check(documents))
    assert any(expected in problem for problem in found), found


@needs_kubectl
def test_an_open_redis_is_found() -> None:
    documents = render("laptop")
    policy = the(documents, "NetworkPolicy", "redis")
    policy["spec"]["ingress"][0]["from"].append(
        {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "gateway"}}}
    )
    assert list(agreement.network(documents)) == ["Redis is open to ['gateway']"]


@needs_kubectl
def test_a_monitor_of_a_port_that_is_not_there_is_found() -> None:
    documents = render("monitoring")
    the(documents, "ServiceMonitor", "front")["spec"]["endpoints"][0]["port"] = "metric"
    found = list(agreement.monitors(documents, render("laptop")))
    assert found == ["front: front has no port metric"]
    the(documents, "ServiceMonitor", "worker")["spec"]["selector"]["matchLabels"] = {"a": "b"}
    assert "worker: there is no service of these labels" in agreement.monitors(
        documents, render("laptop")
    )


@needs_kubectl
def test_each_overlay_has_what_it_is_for() -> None:
    assert {each.component for each in workloads(render("laptop"))} == {
        *("front", "gateway", "worker", "redis"),
    }
    production = [each.name for each in workloads(render("production"), "worker")]
    assert sorted(production) == ["worker-chat", "worker-embed"]
    kinds = {each["kind"] for each in render("autoscaling")}
    assert {"ScaledObject", "HorizontalPodAutoscaler", "TriggerAuthentication"} <= kinds
    kinds = {each["kind"] for each in render("monitoring")}
    assert kinds == {"ServiceMonitor", "PrometheusRule", "ConfigMap"}
