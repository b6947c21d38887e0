"""The version before this one, as it was recorded."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
CONTRACT = FOLDER / "baseline.binpb"
REDIS = FOLDER / "baseline.json.gz"
SEALED = FOLDER / "baseline-sealed.json.gz"
KEYS = FOLDER / "keys"  # of the sealed one: for signatures, and for encryption
_FILE = FOLDER / "baseline.toml"


@dataclass(frozen=True, slots=True)
class Baseline:
    """Which version it is.

    commit: of the repository, in full.
    """

    version: str
    commit: str


def read() -> Baseline:
    return Baseline(**tomllib.loads(_FILE.read_text("utf-8")))


def write(baseline: Baseline) -> None:
    _FILE.write_text(
        "# The version that this one runs beside, and whose Redis it takes over; see record.py.\n"
        f'version = "{baseline.version}"\ncommit = "{baseline.commit}"\n',
        "utf-8",
    )
