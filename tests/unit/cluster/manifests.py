"""Kubernetes manifests as tests look at them: rendered by kubectl, and taken apart."""

from __future__ import annotations

import functools
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
FOLDER = ROOT / "deploy/kubernetes"
OVERLAYS = ("laptop", "production", "autoscaling", "monitoring")

Document = dict[str, Any]

has_kubectl = shutil.which("kubectl") is not None


def render(overlay: str) -> list[Document]:
    """What `kubectl apply -k` would send; each call gives documents of its own."""
    return deepcopy(_rendered(overlay))


@functools.cache
def _rendered(overlay: str) -> list[Document]:
    command = ["kubectl", "kustomize", str(FOLDER / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return read(done.stdout)


def read(text: str) -> list[Document]:
    """All documents of a file, by the parser in C where there is one."""
    return list(yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))


def written() -> list[Document]:
    """The resources as they stand in the files, without kubectl: neither patched nor renamed.

    What kustomize makes ConfigMaps of is one here too.
    """
    documents: list[Document] = []
    for path in sorted(FOLDER.rglob("*.yaml")):
        for document in read(path.read_text("utf-8")):
            if document["kind"] in ("Kustomization", "Component"):
                documents += _generated(document)
            else:
                documents.append(document)
    return documents


def _generated(kustomization: Document) -> Iterator[Document]:
    for each in kustomization.get("configMapGenerator", ()):
        data = dict(literal.split("=", 1) for literal in each.get("literals", ()))
        yield {"kind": "ConfigMap", "metadata": {"name": each["name"]}, "data": data}


@dataclass(frozen=True)
class Workload:
    """A Deployment, StatefulSet or Job, with what else it reads its settings from."""

    document: Document
    config_maps: Mapping[str, Mapping[str, str]]

    @property
    def name(self) -> str:
        return str(self.document["metadata"]["name"])

    @property
    def component(self) -> str:
        return str(self.labels.get("app.kubernetes.io/component", self.name))

    @property
    def labels(self) -> Mapping[str, str]:
        labels: Mapping[str, str] = self.template.get("metadata", {}).get("labels", {})
        return labels

    @property
    def template(self) -> Document:
        template: Document = self.document["spec"]["template"]
        return template

    @property
    def pod(self) -> Document:
        pod: Document = self.template["spec"]
        return pod

    @property
    def containers(self) -> list[Document]:
        return [*self.pod.get("initContainers", ()), *self.pod["containers"]]

    @property
    def container(self) -> Document:
        container: Document = self.pod["containers"][0]
        return container

    @property
    def args(self) -> list[str]:
        """What follows the name of the program."""
        return [str(each) for each in self.container.get("args", ())][1:]

    @property
    def environ(self) -> dict[str, str]:
        """With nothing for what comes from secrets."""
        found: dict[str, str] = {}
        for source in self.container.get("envFrom", ()):
            found |= self.config_maps[source["configMapRef"]["name"]]
        for entry in self.container.get("env", ()):
            found[entry["name"]] = entry.get("value", "")
        return found

    def ports(self) -> dict[str, int]:
        return {each["name"]: each["containerPort"] for each in self.container.get("ports", ())}


def of_kind(documents: Iterable[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def workloads(documents: Sequence[Document], *components: str) -> list[Workload]:
    """All that run pods, or those of some components."""
    maps = {
        each["metadata"]["name"]: each.get("data", {}) for each in of_kind(documents, "ConfigMap")
    }
    found = [
        Workload(each, maps) for each in of_kind(documents, "Deployment", "StatefulSet", "Job")
    ]
    return [each for each in found if not components or each.component in components]


def the(documents: Sequence[Document], kind: str, name: str) -> Document:
    """One document, by kind and the beginning of its name."""
    found = [d for d in of_kind(documents, kind) if d["metadata"]["name"].startswith(name)]
    assert len(found) == 1, (kind, name, len(found))
    return found[0]


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector, or a Service's plain one, fits these labels."""
    plain = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    if any(labels.get(key) != value for key, value in plain.items()):
        return False
    return all(labels.get(e["key"]) in e["values"] for e in selector.get("matchExpressions", ()))
