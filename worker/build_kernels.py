"""Compiles the CPU kernels when the package is built or installed for development.

Takes the C compiler that CC names, else `cc`. Where there is none, or it is not
compatible with GCC's OpenMP, the package is built without kernels and the engine
runs on torch's operations; MIAO_BUILD_KERNELS=require makes that an error, and
MIAO_BUILD_KERNELS=off leaves them out.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_FOLDER = Path("worker/miao_worker/engine/cpu")
# Without -lgomp: torch brings the OpenMP library, under a name that differs by its build.
_FLAGS = ["-O3", "-std=gnu11", "-fPIC", "-fopenmp", "-fno-math-errno", "-fno-trapping-math"]
_AVX512 = [
    "-march=x86-64-v4",
    "-mprefer-vector-width=512",
    "-mavx512bf16",
    "-mavx512vnni",
    "-mavx512vbmi",
    "-mprfchw",
]
_LEVELS: dict[str, dict[str, list[str]]] = {
    "x86_64": {
        "amx": [*_AVX512, "-mamx-tile", "-mamx-bf16", "-mamx-int8"],
        "avx512": _AVX512,
        "avx2": ["-march=x86-64-v3"],
    },
    "aarch64": {"generic": []},
}


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the compiled kernels to the wheel, which then is one of this platform."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        wish = os.environ.get("MIAO_BUILD_KERNELS", "auto")
        built = [] if wish == "off" else compile_kernels(Path(self.root))
        if not built:
            if wish == "require":
                raise RuntimeError("the CPU kernels cannot be compiled here; see above")
            return
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{platform.machine()}"
        build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in built]


def compile_kernels(root: Path) -> list[Path]:
    """Compile each level of this machine's architecture; the files of those that could be."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")
    levels = _LEVELS.get(platform.machine(), {})
    if compiler is None or sys.platform != "linux":
        return []
    built = []
    for level, flags in levels.items():
        target = root / _FOLDER / f"_kernels_{level}.so"
        if _compile(compiler, flags, root / _FOLDER, target):
            built.append(target)
    return built


def _compile(compiler: str, flags: list[str], folder: Path, target: Path) -> bool:
    source = folder / "kernels.c"  # includes the others
    sources = b"".join(path.read_bytes() for path in sorted(folder.glob("*.c")))
    checksum = hashlib.sha256(sources).hexdigest()
    if _is_current(target, checksum):
        return True
    flags = [*flags, f'-DMIAO_SOURCE="{checksum}"']
    compiled, linked = target.with_suffix(".o"), target.with_suffix(".new")
    try:
        for command in (
            [compiler, *_FLAGS, *flags, "-c", str(source), "-o", str(compiled)],
            [compiler, "-shared", str(compiled), "-o", str(linked), "-lm"],
        ):
            done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
            if done.returncode != 0:
                sys.stderr.write(done.stderr)
                return False
        linked.replace(target)  # whole or not at all, beside a process that has it open
        return True
    finally:
        compiled.unlink(missing_ok=True)
        linked.unlink(missing_ok=True)


def _is_current(target: Path, checksum: str) -> bool:
    """Whether it was compiled of these sources since this file has said how."""
    return (
        target.exists()
        and target.stat().st_mtime > Path(__file__).stat().st_mtime
        and checksum.encode() in target.read_bytes()
    )
