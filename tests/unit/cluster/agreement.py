"""What no schema knows: whether the manifests and the code say the same.

Each check takes documents and returns a sentence for each thing that is wrong.
"""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

from rq.registry import StartedJobRegistry

from miao_client.gateway.app import create_app
from miao_client.gateway.settings import GatewaySettings
from miao_client.gateway.settings import SettingsError as GatewaySettingsError
from miao_queue import access, connection, keys
from miao_queue.telemetry.exposition import parse_listen
from miao_queue.telemetry.probes import LIVENESS
from miao_service.auth.access import _check_exposure, _check_together
from miao_service.settings import ServiceSettings, SettingsError, parse_address
from miao_worker.cli import _parser

from .manifests import FOLDER, ROOT, Document, Workload, of_kind, selects, the, workloads

# Of others: the allocator, and Hugging Face's library.
_FOREIGN = re.compile(r"MALLOC_\w+|HF_\w+|REDIS_URL")
_MARGIN_SECONDS = 5
_AFTER_A_FRONTS_DRAIN_SECONDS = 1  # before the rest of its calls are cut: Front.drain
_LISTENING = {
    "front": {"grpc": "listen", "health": "health_listen", "metrics": "metrics_listen"},
    "worker": {"health": "health_listen", "metrics": "metrics_listen"},
}


def settings(documents: Sequence[Document]) -> Iterator[str]:
    """Every name is one that the program reads, and every value one that it takes."""
    for workload in workloads(documents, "front", "gateway", "worker"):
        known = _known_names(workload.component)
        for name in workload.environ:
            if name not in known and not _FOREIGN.fullmatch(name):
                yield f"{workload.name}: there is no setting {name}"
        try:
            _settings(workload)
        except (SettingsError, GatewaySettingsError, ValueError) as error:
            yield f"{workload.name}: {error}"
        except SystemExit:
            yield f"{workload.name}: its program does not take {workload.args}"


def ports(documents: Sequence[Document]) -> Iterator[str]:
    """What is listened on is what containers, services and policies name."""
    for workload in workloads(documents, "front", "gateway", "worker"):
        listened = _listened(workload)
        if workload.ports() != listened:
            yield f"{workload.name}: has ports {workload.ports()} and listens on {listened}"
    for service in of_kind(documents, "Service"):
        for workload in _selected(documents, service["spec"]["selector"]):
            for port in service["spec"]["ports"]:
                actual = workload.ports().get(port["targetPort"])
                if actual is None:
                    yield f"{service['metadata']['name']}: no port {port['targetPort']}"
                elif service["spec"].get("clusterIP") == "None" and actual != port["port"]:
                    yield f"{service['metadata']['name']}: a headless {port['port']} is {actual}"
    yield from _policy_ports(documents)
    for workload in workloads(documents, "front", "gateway"):
        port = the(documents, "Service", workload.name)["spec"]["ports"][0]
        if (port["appProtocol"] == "https") != bool(_settings(workload).tls_certificate):
            yield f"{workload.name}: its port does not speak {port['appProtocol']}"
    for workload in workloads(documents, "gateway"):
        host, _, port = workload.environ["MIAO_TARGET"].rpartition(":")
        service = the(documents, "Service", host.removeprefix("dns:///"))
        if int(port) not in [each["port"] for each in service["spec"]["ports"]]:
            yield f"{workload.name}: MIAO_TARGET names no port of {service['metadata']['name']}"


def probes(documents: Sequence[Document]) -> Iterator[str]:
    """Probes ask at the port for them, and liveness for what a restart can mend."""
    for workload in workloads(documents, "front", "worker"):
        health = _listened(workload)["health"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = workload.container.get(kind, {}).get("grpc", {})
            if asked.get("port") != health:
                yield f"{workload.name}: its {kind} does not ask at {health}"
            wanted = {"livenessProbe": (LIVENESS,), "readinessProbe": ("",)}
            if asked.get("service", "") not in wanted.get(kind, ("", LIVENESS)):
                yield f"{workload.name}: its {kind} asks for {asked.get('service', '')!r}"
    routes = {route.path for route in create_app(None)._app.routes}  # type: ignore[attr-defined,arg-type]
    for workload in workloads(documents, "gateway"):
        scheme = "HTTPS" if _settings(workload).tls_certificate else "HTTP"
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = workload.container.get(kind, {}).get("httpGet", {})
            if asked.get("path") not in routes:
                yield f"{workload.name}: its {kind} asks for {asked.get('path')}"
            if asked.get("scheme", "HTTP") != scheme:
                yield f"{workload.name}: its {kind} does not speak {scheme}"


def grace(documents: Sequence[Document]) -> Iterator[str]:
    """A pod is not killed before it has drained, nor drained before callers have heard of it."""
    for workload in workloads(documents, "front", "gateway", "worker"):
        given = workload.pod.get("terminationGracePeriodSeconds", 30)
        pause = workload.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {})
        needed = pause.get("seconds", 0) + _settings(workload).drain_seconds + _MARGIN_SECONDS
        match workload.component:
            case "front":
                needed += _AFTER_A_FRONTS_DRAIN_SECONDS + _settings(workload).redis_timeout_seconds
            case "worker":
                needed += connection._SOCKET_TIMEOUT_SECONDS
        if given < needed:
            yield f"{workload.name}: has {given} s to end and needs {needed:g}"
        if workload.component != "worker" and not pause.get("seconds"):
            yield f"{workload.name}: stops taking calls before callers know"


def references(documents: Sequence[Document]) -> Iterator[str]:
    """What is referred to is there, or in the table of secrets of docs/kubernetes.md."""
    secrets = documented_secrets() | {
        each["metadata"]["name"]: set(each.get("data", {})) for each in of_kind(documents, "Secret")
    }
    for workload in workloads(documents):
        for name, key in _secret_keys(workload):
            if key not in secrets.get(name, set()):
                yield f"{workload.name}: nobody knows of the key {key} of the secret {name}"
        for kind, name in _named_objects(workload):
            if name not in [d["metadata"]["name"] for d in of_kind(documents, kind)]:
                yield f"{workload.name}: there is no {kind} {name}"
    for each in of_kind(documents, "TriggerAuthentication"):
        for entry in each["spec"]["secretTargetRef"]:
            if entry["key"] not in secrets.get(entry["name"], set()):
                yield f"{entry['name']}: nobody knows of its key {entry['key']}"


def files(documents: Sequence[Document]) -> Iterator[str]:
    """Every file that a setting names is mounted."""
    for workload in workloads(documents, "front", "gateway", "worker"):
        mounted = set(_mounted_files(documents, workload))
        words = [*workload.environ.values(), *(arg.partition("=")[2] for arg in workload.args)]
        for path in words:
            if path.startswith("/etc/") and path not in mounted:
                yield f"{workload.name}: {path} is not mounted"


def selectors(documents: Sequence[Document]) -> Iterator[str]:
    """Whatever selects pods selects some, and each workload its own alone."""
    for kind, place in (("Service", "selector"), ("PodDisruptionBudget", "selector")):
        for each in of_kind(documents, kind):
            if not list(_selected(documents, each["spec"][place])):
                yield f"{kind} {each['metadata']['name']} selects nothing"
    for each in of_kind(documents, "NetworkPolicy"):
        if not list(_selected(documents, each["spec"]["podSelector"])):
            yield f"NetworkPolicy {each['metadata']['name']} selects nothing"
    for workload in workloads(documents, "front", "gateway", "worker", "redis"):
        chosen = list(_selected(documents, workload.document["spec"]["selector"]))
        if [each.name for each in chosen] != [workload.name]:
            yield f"{workload.name}: selects {[each.name for each in chosen]}"
        for constraint in workload.pod.get("topologySpreadConstraints", ()):
            if not selects(constraint["labelSelector"], workload.labels):
                yield f"{workload.name}: spreads others than its own"


def security(documents: Sequence[Document]) -> Iterator[str]:
    """As the images are: a user of their own, and nothing written but to volumes."""
    user = int(re.search(r"^USER (\d+)", containerfile(), re.MULTILINE).group(1))  # type: ignore[union-attr]
    for workload in workloads(documents):
        pod = workload.pod.get("securityContext", {})
        if pod.get("runAsUser") != user or not pod.get("runAsNonRoot"):
            yield f"{workload.name}: does not run as {user}"
        if pod.get("seccompProfile", {}).get("type") != "RuntimeDefault":
            yield f"{workload.name}: has no seccomp profile"
        if workload.pod.get("automountServiceAccountToken", True):
            yield f"{workload.name}: is given a token of the cluster"
        for container in workload.containers:
            own = container.get("securityContext", {})
            if not own.get("readOnlyRootFilesystem") or own.get("allowPrivilegeEscalation", True):
                yield f"{workload.name}: {container['name']} may write or rise"
            if own.get("capabilities") != {"drop": ["ALL"]}:
                yield f"{workload.name}: {container['name']} keeps capabilities"


def images(documents: Sequence[Document]) -> Iterator[str]:
    """Ours have the package's version, and begin the program that the image is for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    commands = dict(re.findall(r'FROM common AS (\w+)\n(?:.*\n)*?CMD \["(\w+)"\]', containerfile()))
    for workload in workloads(documents, "front", "gateway", "worker", "models"):
        for container in workload.containers:
            name, _, tag = container["image"].rpartition(":")
            if tag.removesuffix("-cuda") != project["version"]:
                yield f"{workload.name}: {container['image']} is not {project['version']}"
            target = re.split(r"[-/]", name)[-1]
            command = container.get("args", [""])[0]
            if workload.component != "models" and commands.get(target) != command:
                yield f"{workload.name}: {container['image']} is not made for {command}"
        wants_gpu = "nvidia.com/gpu" in workload.container["resources"]["limits"]
        if wants_gpu != (workload.component == "worker" and tag.endswith("-cuda")):
            yield f"{workload.name}: its image and its GPU do not fit"


def network(documents: Sequence[Document]) -> Iterator[str]:
    """Nothing is open that no policy opens, and Redis to fronts and workers alone."""
    policies = [each["spec"] for each in of_kind(documents, "NetworkPolicy")]
    closing = [p for p in policies if not p.get("ingress") and not p.get("egress")]
    for workload in workloads(documents):
        if not any(selects(p["podSelector"], workload.labels) for p in closing):
            yield f"{workload.name}: is open by default"
    for policy in policies:
        for port in _policy_port_numbers(policy, "ingress"):
            if port == 6379:
                for source in (each for rule in policy["ingress"] for each in rule["from"]):
                    reached = _selected(documents, source.get("podSelector", {}))
                    others = {each.component for each in reached} - {"front", "worker"}
                    if "podSelector" not in source or others:
                        yield f"Redis is open to {sorted(others) or source}"


def scaling(documents: Sequence[Document]) -> Iterator[str]:
    """What KEDA counts is what waits and runs for the model of the workers that it scales."""
    for scaled in of_kind(documents, "ScaledObject"):
        name, spec = scaled["metadata"]["name"], scaled["spec"]
        found = [
            w for w in workloads(documents, "worker") if w.name == spec["scaleTargetRef"]["name"]
        ]
        if not found:
            yield f"{name}: there is no {spec['scaleTargetRef']['name']}"
            continue
        options = _settings(found[0])
        counted = {each["metadata"]["listName"]: each["name"] for each in spec["triggers"]}
        wanted = _counted_keys(options.name)
        if counted.keys() != wanted:
            yield f"{name}: counts {sorted(counted.keys() ^ wanted)} wrongly"
        modifiers = spec["advanced"]["scalingModifiers"]
        if sorted(modifiers["formula"].split(" + ")) != sorted(counted.values()):
            yield f"{name}: its formula is not the sum of its triggers"
        if not 0 < float(modifiers["target"]) <= options.max_sequences:
            yield f"{name}: a worker has no {modifiers['target']} at once"
        patterns = next(u.patterns for u in access.USERS if u.name == "miao-scaler")
        if not all(any(key.startswith(p.rstrip("*")) for p in patterns) for key in counted):
            yield f"{name}: miao-scaler may not count that"
    yield from _waiting_for_the_first(documents)


def _waiting_for_the_first(documents: Sequence[Document]) -> Iterator[str]:
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(documents, "ScaledObject")}
    scaled |= {
        each["spec"]["scaleTargetRef"]["name"]
        for each in of_kind(documents, "HorizontalPodAutoscaler")
    }
    for workload in workloads(documents):
        if workload.name in scaled and "replicas" in workload.document["spec"]:
            yield f"{workload.name}: its replicas are set and scaled"
    if of_kind(documents, "ScaledObject"):
        for front in workloads(documents, "front"):
            options = _settings(front)
            if not options.queue_without_worker:
                yield f"{front.name}: refuses what would call the first worker"
            if options.forget_model_seconds < 30 * 86400:
                yield f"{front.name}: soon forgets a model that has no worker"


def monitors(documents: Sequence[Document], services: Sequence[Document]) -> Iterator[str]:
    """ServiceMonitors find ports of the services that another overlay has."""
    for monitor in of_kind(documents, "ServiceMonitor"):
        name, spec = monitor["metadata"]["name"], monitor["spec"]
        found = [
            s
            for s in of_kind(services, "Service")
            if selects(spec["selector"], s["metadata"]["labels"])
        ]
        if not found:
            yield f"{name}: there is no service of these labels"
        for service in found:
            names = {port["name"] for port in service["spec"]["ports"]}
            for endpoint in spec["endpoints"]:
                if endpoint["port"] not in names:
                    yield f"{name}: {service['metadata']['name']} has no port {endpoint['port']}"
            if spec["jobLabel"] not in service["metadata"]["labels"]:
                yield f"{name}: {service['metadata']['name']} has no label {spec['jobLabel']}"


CHECKS = (
    *(settings, ports, probes, grace, references, files, selectors),
    *(security, images, network, scaling),
)


@functools.cache
def containerfile() -> str:
    return (ROOT / "deploy/images/Containerfile").read_text("utf-8")


@functools.cache
def documented_secrets() -> dict[str, set[str]]:
    """The keys of each secret in the table of docs/kubernetes.md."""
    text = (ROOT / "docs/kubernetes.md").read_text("utf-8")
    rows = re.findall(r"^\| `(miao-[\w-]+)` \| ((?:`[\w.-]+`,? ?)+)\|", text, re.MULTILINE)
    return {name: set(re.findall(r"`([\w.-]+)`", cell)) for name, cell in rows}


@functools.cache
def _known_names(component: str) -> set[str]:
    if component == "front":
        return {entry.metadata["env"] for entry in fields(ServiceSettings)}
    folder = "client/miao_client" if component == "gateway" else "worker"
    paths = (ROOT / folder).rglob("*.py")
    texts = [p.read_text("utf-8") for p in paths if "training" not in p.parts]
    return {name for text in texts for name in re.findall(r'"(MIAO_\w+)"', text)}


def _settings(workload: Workload) -> Any:
    """As the program itself would read them."""
    match workload.component:
        case "front":
            found = ServiceSettings.read(workload.args, workload.environ)
            _check_together(found)
            _check_exposure(found)
            return found
        case "gateway":
            return GatewaySettings.read(workload.args, workload.environ)
        case _:
            return _parser().parse_args(workload.args)


def _listened(workload: Workload) -> dict[str, int]:
    options = _settings(workload)
    if workload.component == "gateway":
        return {"http": options.port}
    names = _LISTENING[workload.component]
    found = {}
    for port, name in names.items():
        text = getattr(options, name)
        host, number = parse_address(text) if name == "listen" else parse_listen(text)
        found[port] = number if host == "0.0.0.0" else -1  # nobody reaches it elsewhere
    return found


def _selected(documents: Sequence[Document], selector: dict[str, Any]) -> Iterator[Workload]:
    return (each for each in workloads(documents) if selects(selector, each.labels))


def _policy_port_numbers(policy: Document, direction: str) -> list[int]:
    rules = policy.get(direction) or []
    return [port["port"] for rule in rules for port in rule.get("ports", ())]


def _policy_ports(documents: Sequence[Document]) -> Iterator[str]:
    for each in of_kind(documents, "NetworkPolicy"):
        targets = list(_selected(documents, each["spec"]["podSelector"]))
        there = {number for target in targets for number in target.ports().values()}
        for number in _policy_port_numbers(each["spec"], "ingress"):
            if number not in there:
                yield f"NetworkPolicy {each['metadata']['name']}: nobody listens on {number}"


def _secret_keys(workload: Workload) -> Iterator[tuple[str, str]]:
    for container in workload.containers:
        for entry in container.get("env", ()):
            if source := entry.get("valueFrom", {}).get("secretKeyRef"):
                yield source["name"], source["key"]
    for volume in workload.pod.get("volumes", ()):
        if secret := volume.get("secret"):
            known = documented_secrets().get(secret["secretName"], {"?"})
            for key in [item["key"] for item in secret.get("items", ())] or known:
                yield secret["secretName"], key


def _named_objects(workload: Workload) -> Iterator[tuple[str, str]]:
    if "serviceAccountName" in workload.pod:
        yield "ServiceAccount", workload.pod["serviceAccountName"]
    if "priorityClassName" in workload.pod:
        yield "PriorityClass", workload.pod["priorityClassName"]
    for volume in workload.pod.get("volumes", ()):
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]


def _mounted_files(documents: Sequence[Document], workload: Workload) -> Iterator[str]:
    places = {each["name"]: each["mountPath"] for each in workload.container["volumeMounts"]}
    secrets = documented_secrets()
    for volume in workload.pod.get("volumes", ()):
        names: set[str] = set()
        if "secret" in volume:
            names = secrets.get(volume["secret"]["secretName"], set())
        elif "configMap" in volume:
            names = set(the(documents, "ConfigMap", volume["configMap"]["name"])["data"])
        if volume["name"] in places:
            yield from (f"{places[volume['name']]}/{name}" for name in names)


def _counted_keys(model: str) -> set[str]:
    queues = keys.queue_names(model)
    return {keys.queue_key(queue) for queue in queues} | {
        StartedJobRegistry.key_template.format(queue) for queue in queues
    }


__all__ = ["CHECKS", "FOLDER", "monitors"]
