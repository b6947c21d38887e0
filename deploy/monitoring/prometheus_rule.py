"""Prints rules.yml as the Prometheus operator takes it, for `make monitoring`."""

from pathlib import Path

HEAD = """\
# Written by `make monitoring` from rules.yml; do not edit.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: miao
  labels:
    app.kubernetes.io/name: miao
spec:
"""


def resource(rules: str) -> str:
    """The resource around a file of rules, which it holds as it is."""
    lines = [line for line in rules.splitlines() if not line.startswith("#")]
    return HEAD + "".join(f"  {line}\n" if line else "\n" for line in lines)


if __name__ == "__main__":
    print(resource(Path(__file__).with_name("rules.yml").read_text("utf-8")), end="")
