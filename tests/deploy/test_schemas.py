"""The overlays, judged by Kubernetes' and its extensions' own schemas and by checkov's policies.

For `make manifests`, which installs the judges and says where they are: MIAO_MANIFESTS_TOOLS.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.cluster.manifests import OVERLAYS, ROOT, Document, render, the

# `sleep` in preStop is there since 1.30.
VERSIONS = ("1.30", "1.33", "1.35", "1.37")
OWN = ("keda.sh/", "monitoring.coreos.com/")


@pytest.fixture(scope="session")
def tools() -> Path:
    return Path(os.environ["MIAO_MANIFESTS_TOOLS"])


def is_own(document: Document) -> bool:
    return bool(document["apiVersion"].startswith(OWN))


def run(*command: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(each) for each in command], input=text, capture_output=True, text=True, check=False
    )


def validate(tools: Path, file: Path, documents: list[Document], version: str) -> Any:
    file.write_text(yaml.safe_dump_all(d for d in documents if not is_own(d)), "utf-8")
    return run(tools / "bin/kubernetes-validate", "--strict", "--quiet", "-k", version, file)


def judge_own(tools: Path, documents: list[Document]) -> Any:
    script = Path(__file__).with_name("custom_resources.mjs")
    own = [document for document in documents if is_own(document)]
    return run("node", script, tools, text=json.dumps(own))


def check_policies(tools: Path, file: Path, documents: list[Document]) -> Any:
    file.write_text(yaml.safe_dump_all(documents), "utf-8")
    options = ["--config-file", Path(__file__).with_name("checkov.yaml")]
    return run(tools / "bin/checkov", "--file", file, *options)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_of_the_api(tools: Path, tmp_path: Path, overlay: str, version: str) -> None:
    done = validate(tools, tmp_path / "all.yaml", render(overlay), version)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"replica": 3}, "replica"),
        ({"replicas": "many"}, "many"),
        ({"strategy": {"rollingUpdates": {}}}, "rollingUpdates"),
    ],
    ids=["an unknown field", "a wrong type", "an unknown field further in"],
)
def test_a_mistake_against_the_api_is_found(
    tools: Path, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    documents = render("laptop")
    the(documents, "Deployment", "front")["spec"].update(change)
    done = validate(tools, tmp_path / "all.yaml", documents, VERSIONS[-1])
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("overlay", ["autoscaling", "monitoring"])
def test_what_is_not_of_the_api_is_as_its_makers_publish_it(tools: Path, overlay: str) -> None:
    done = judge_own(tools, render(overlay))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("overlay", "kind", "change", "said"),
    [
        ("autoscaling", "ScaledObject", {"pollingIntervall": 5}, "pollingIntervall"),
        ("autoscaling", "ScaledObject", {"maxReplicaCount": "8"}, "maxReplicaCount"),
        ("monitoring", "ServiceMonitor", {"endpoint": []}, "endpoint"),
        ("monitoring", "PrometheusRule", {"groups": [{"rules": []}]}, "name"),
    ],
    ids=["KEDA: unknown", "KEDA: type", "operator: unknown", "operator: missing"],
)
def test_a_mistake_in_a_custom_resource_is_found(
    tools: Path, overlay: str, kind: str, change: dict[str, Any], said: str
) -> None:
    documents = render(overlay)
    next(d for d in documents if d["kind"] == kind)["spec"].update(change)
    done = judge_own(tools, documents)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize("overlay", ["laptop", "autoscaling"])  # which has production's
def test_policies_are_kept(tools: Path, tmp_path: Path, overlay: str) -> None:
    done = check_policies(tools, tmp_path / "all.yaml", render(overlay))
    assert done.returncode == 0, done.stdout
    assert "Failed checks: 0" in done.stdout


def test_a_privileged_container_is_found(tools: Path, tmp_path: Path) -> None:
    documents = render("laptop")
    pod = the(documents, "Deployment", "front")["spec"]["template"]["spec"]
    pod["containers"][0]["securityContext"]["privileged"] = True
    done = check_policies(tools, tmp_path / "all.yaml", documents)
    assert done.returncode != 0
    assert "CKV_K8S_16" in done.stdout


def test_the_images_file_is_clean(tools: Path, tmp_path: Path) -> None:
    file = ROOT / "deploy/images/Containerfile"
    done = run(tools / "bin/hadolint", file)
    assert done.returncode == 0, done.stdout
    (tmp_path / "Containerfile").write_text(file.read_text("utf-8") + "\nUSER root\n", "utf-8")
    done = run(tools / "bin/hadolint", tmp_path / "Containerfile")
    assert "DL3002" in done.stdout
