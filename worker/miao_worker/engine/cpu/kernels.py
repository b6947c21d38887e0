"""The compiled kernels: which of them this machine can run, and how they are called.

`worker/build_kernels.py` compiles `kernels.c` when the package is built, once for
each level of instruction set. Where none of them serves, `load` returns None and
the engine runs on torch's operations alone.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

TILE = 16  # the block size is a multiple of it
MAX_ROWS = 128  # queries times heads of one attention task
MAX_HEAD_DIM = 256

# Best first, each with what it asks of the CPU. The names are those of the files.
_AVX512 = frozenset(
    {"avx512f", "avx512bw", "avx512dq", "avx512vl", "fma"}
    | {"avx512_bf16", "avx512_vnni", "avx512vbmi"}
)
_LEVELS: tuple[tuple[str, frozenset[str]], ...] = (
    ("amx", _AVX512 | {"amx_tile", "amx_bf16", "amx_int8"}),
    ("avx512", _AVX512),
    ("avx2", frozenset({"avx2", "fma", "f16c"})),
    ("generic", frozenset()),
)
_FOLDER = Path(__file__).parent
_DTYPES = {torch.float32: 0, torch.bfloat16: 1}
ACTIVATIONS = {"silu": 0, "swish": 0, "gelu_pytorch_tanh": 1, "gelu_new": 1}
GATES = {name: code + 1 for name, code in ACTIVATIONS.items()}  # as a product's epilogue
_PANEL = 32  # outputs of a product's panel
_RETURN_NUMBERS = frozenset({"miao_layers_bytes", "miao_product_bytes", "miao_has_tiles"})

_log = logging.getLogger(__name__)


class LayerStruct(ctypes.Structure):
    """`Layer` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in (
            "dtype", "heads", "kv_heads", "dim", "rotary_dim", "block_size", "window")),
        *((name, ctypes.c_double) for name in ("scale", "softcap", "norm_eps")),
        *((name, ctypes.c_void_p) for name in (
            "query_norm", "key_norm", "cos", "sin", "keys", "values",
            "key_scales", "value_scales")),
    )  # fmt: skip


class StepStruct(ctypes.Structure):
    """`Step` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in (
            "num_tokens", "num_sequences", "table_width", "num_tasks")),
        *((name, ctypes.c_void_p) for name in (
            "positions", "blocks", "starts", "tables", "tasks")),
    )  # fmt: skip


class ProductStruct(ctypes.Structure):
    """`Product` of kernels.c."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in (
            "in_features", "out_features", "panels", "is_int8", "epilogue")),
        *((name, ctypes.c_void_p) for name in ("packed", "bias", "scales", "sums", "share")),
    )  # fmt: skip


class LayerWeightsStruct(ctypes.Structure):
    """`LayerWeights` of kernels.c."""

    _fields_ = tuple(
        (name, ctypes.c_void_p) for name in (
            "attention", "qkv", "output", "gate_up", "down", "attention_norm", "mlp_norm",
            "after_attention_norm", "after_mlp_norm")
    )  # fmt: skip


class LayersStruct(ctypes.Structure):
    """`Layers` of kernels.c."""

    _fields_ = (
        ("num_layers", ctypes.c_int64),
        ("hidden", ctypes.c_int64),
        ("norm_eps", ctypes.c_double),
        ("layers", ctypes.c_void_p),
        ("final_norm", ctypes.c_void_p),
    )


class LowRankStruct(ctypes.Structure):
    """`LowRank` of adapters.c."""

    _fields_ = (
        ("columns", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("down", "up", "halves")),
    )


class OwnersStruct(ctypes.Structure):
    """`Owners` of adapters.c."""

    _fields_ = tuple((name, ctypes.c_void_p) for name in ("owners", "starts", "rows"))


class AdaptersStruct(ctypes.Structure):
    """`Adapters` of adapters.c."""

    _fields_ = (
        ("num_adapters", ctypes.c_int64),
        ("columns", ctypes.c_int64),
        ("weights", ctypes.c_void_p),
        ("all", OwnersStruct),
        ("chosen", OwnersStruct),
    )


class WeightProductStruct(ctypes.Structure):
    """`WeightProduct` of weights.c."""

    _fields_ = (
        ("plain", ProductStruct),
        *((name, ctypes.c_int64) for name in ("bits", "group", "dtype")),
        *((name, ctypes.c_void_p) for name in ("scales", "packed")),
    )


@dataclass(frozen=True, slots=True)
class Kernels:
    """The functions of one compiled level, on contiguous tensors."""

    level: str
    _library: ctypes.CDLL

    def add_rms_norm(
        self,
        residual: Tensor,
        delta: Tensor | None,
        delta_weight: Tensor | None,
        weight: Tensor,
        eps: float,
        out: Tensor,
    ) -> None:
        """Residual += delta (normed first, if it has a weight); out = norm(residual) * weight.

        Shapes: residual, delta, out (rows, n), the weights (n,). residual and the
        weights are float32, delta and out of the activations' dtype.
        """
        rows, n = residual.shape
        self._library.miao_add_rms_norm(
            residual.data_ptr(),
            None if delta is None else delta.data_ptr(),
            None if delta_weight is None else delta_weight.data_ptr(),
            weight.data_ptr(),
            eps,
            out.data_ptr(),
            rows,
            n,
            _DTYPES[out.dtype],
        )

    def gated_activation(self, gate_up: Tensor, activation: int, out: Tensor) -> None:
        """Out = activation(gate) * up. Shapes: gate_up (rows, 2 n), out (rows, n)."""
        rows, n = out.shape
        self._library.miao_gated_activation(
            gate_up.data_ptr(), out.data_ptr(), rows, n, activation, _DTYPES[out.dtype]
        )

    def attention(
        self, layer: LayerStruct, step: StepStruct, qkv: Tensor, queries: Tensor, out: Tensor
    ) -> None:
        """A layer's rotary positions, its write into the pool, and its attention.

        Shapes: qkv (tokens, (heads + 2 kv_heads) * dim); queries, which is working
        memory, and out (tokens, heads * dim).
        """
        self._library.miao_attention(
            ctypes.addressof(layer),
            ctypes.addressof(step),
            qkv.data_ptr(),
            queries.data_ptr(),
            out.data_ptr(),
        )

    @property
    def has_products(self) -> bool:
        """Whether this level multiplies bfloat16 and int8 by itself."""
        return hasattr(self._library, "miao_product")

    def pack(self, weight: Tensor, is_gated: bool, packed: Tensor) -> None:
        """Bring a weight (out, in), bfloat16 or int8, into panels; a gate's rows come first."""
        out, in_ = weight.shape
        is_int8 = weight.dtype == torch.int8
        self._library.miao_pack(
            weight.data_ptr(), out, in_, int(is_int8), int(is_gated), packed.data_ptr()
        )

    def product(self, struct: int, x: Tensor, out: Tensor, rows: int) -> None:
        """Out = x W^T by the `ProductStruct` at the address `struct`."""
        num_bytes = self._library.miao_product_bytes(struct, rows)
        scratch = x.new_empty(num_bytes, dtype=torch.uint8)
        self._library.miao_product(
            struct, x.data_ptr(), out.data_ptr(), rows, _DTYPES[out.dtype], scratch.data_ptr()
        )

    def layers_bytes(self, struct: LayersStruct, tokens: int, columns: int) -> int:
        """Working memory that all layers take for so many tokens, with columns of adapters."""
        return int(self._library.miao_layers_bytes(ctypes.addressof(struct), tokens, columns))

    def layers(
        self,
        struct: LayersStruct,
        step: StepStruct,
        residual: Tensor,
        wanted: Tensor | None,
        adapters: AdaptersStruct | None,
        work: Tensor,
        out: Tensor,
    ) -> None:
        """All layers of a decoder, from embeddings to what the head takes.

        Shapes: residual (tokens, hidden) float32, used up; wanted (n,) ascending, None
        for all; out (n, hidden) bfloat16; work of `layers_bytes`.
        """
        self._library.miao_layers(
            ctypes.addressof(struct),
            ctypes.addressof(step),
            residual.data_ptr(),
            None if wanted is None else wanted.data_ptr(),
            len(out),
            None if adapters is None else ctypes.addressof(adapters),
            work.data_ptr(),
            out.data_ptr(),
        )

    def row_maxima(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Each row's largest value, NaN where it has one, and its first place.

        Shapes: x (rows, n) float32 contiguous; returns (rows,) float32 and (rows,) int64.
        """
        rows, n = x.shape
        best, places = x.new_empty(rows), x.new_empty(rows, dtype=torch.int64)
        self._library.miao_row_maxima(x.data_ptr(), rows, n, best.data_ptr(), places.data_ptr())
        return best, places

    @property
    def has_narrow_weights(self) -> bool:
        """Whether products on 8 or 4-bit weights take bfloat16 activations; float32 always."""
        return hasattr(self._library, "miao_has_narrow_weights")

    def round_groups(
        self, weight: Tensor, group: int, codes: Tensor, scales: Tensor, middles: Tensor
    ) -> None:
        """Round a weight (out, in) to 4 bits; codes (out, in), the others (out, in / group)."""
        out, in_ = weight.shape
        self._library.miao_round_groups(
            weight.data_ptr(),
            out,
            in_,
            group,
            _DTYPES[weight.dtype],
            codes.data_ptr(),
            scales.data_ptr(),
            middles.data_ptr(),
        )

    def weight_pack(
        self,
        values: Tensor,
        scales: Tensor | None,
        middles: Tensor | None,
        *,
        group: int,
        activations: torch.dtype,
        is_gated: bool,
        packed: Tensor,
    ) -> None:
        """Bring rounded values (out, in) into panels; see weights.c for what they are.

        4 bits have scales and middles (out, in / group), bfloat16; 8 bits neither.
        """
        out, in_ = values.shape
        self._library.miao_weight_pack(
            values.data_ptr(),
            None if scales is None else scales.data_ptr(),
            None if middles is None else middles.data_ptr(),
            out,
            in_,
            8 if scales is None else 4,
            group,
            _DTYPES[activations],
            int(is_gated),
            packed.data_ptr(),
        )

    def weight_product(
        self, struct: int, x: Tensor, out: Tensor, rows: int, scratch: Tensor
    ) -> None:
        """Out = x W^T by the `WeightProductStruct` at the address `struct`."""
        self._library.miao_weight_product(
            struct, x.data_ptr(), out.data_ptr(), rows, _DTYPES[out.dtype], scratch.data_ptr()
        )


def num_panels(out_features: int, is_gated: bool) -> int:
    """Panels that hold so many outputs; those of a gate take half of each."""
    width = _PANEL if not is_gated else _PANEL // 2
    return -(-(out_features // 2 if is_gated else out_features) // width)


def dtype_code(dtype: torch.dtype) -> int:
    return _DTYPES[dtype]


@functools.cache
def load() -> Kernels | None:
    """The best level that was compiled and that this CPU runs; None where there is none."""
    return next(iter(available()), None)


def available() -> tuple[Kernels, ...]:
    """All levels that were compiled and that this CPU runs, the best first."""
    flags = _cpu_flags()
    found = []
    for level, needed in _LEVELS:
        path = _FOLDER / f"_kernels_{level}.so"
        if needed <= flags and path.is_file():
            try:
                found.append(Kernels(level, _open(path)))
            except (OSError, ValueError) as error:
                _log.warning("the compiled kernels in %s do not load: %s", path.name, error)
    return tuple(found)


def _open(path: Path) -> ctypes.CDLL:
    # The kernels share the threads of torch's products: its OpenMP resolves their symbols.
    ctypes.CDLL(_loaded_openmp(), mode=ctypes.RTLD_GLOBAL)
    library = ctypes.CDLL(str(path))
    source = ctypes.c_char * 64
    sources = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.c")))
    checksum = hashlib.sha256(sources).hexdigest()
    if source.in_dll(library, "miao_source").raw.decode() != checksum:
        raise OSError("they were compiled from another version; install the package again")
    pointer, integer, double = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    for name, arguments in (
        ("miao_add_rms_norm", [*[pointer] * 4, double, pointer, *[integer] * 3]),
        ("miao_gated_activation", [pointer, pointer, *[integer] * 4]),
        ("miao_attention", [pointer] * 5),
        ("miao_pack", [pointer, *[integer] * 4, pointer]),
        ("miao_product_bytes", [pointer, integer]),
        ("miao_product", [*[pointer] * 3, integer, integer, pointer]),
        ("miao_has_tiles", []),
        ("miao_layers_bytes", [pointer, integer, integer]),
        ("miao_layers", [*[pointer] * 4, integer, *[pointer] * 3]),
        ("miao_row_maxima", [pointer, integer, integer, pointer, pointer]),
        ("miao_round_groups", [pointer, *[integer] * 4, *[pointer] * 3]),
        ("miao_weight_pack", [*[pointer] * 3, *[integer] * 6, pointer]),
        ("miao_weight_product", [*[pointer] * 3, integer, integer, pointer]),
    ):
        function = getattr(library, name, None)
        if function is None:
            continue  # products are of the first level alone
        function.argtypes = arguments
        function.restype = integer if name in _RETURN_NUMBERS else None
    if hasattr(library, "miao_has_tiles") and not library.miao_has_tiles():
        raise OSError("the system does not grant this process the matrix unit's registers")
    return library


def _loaded_openmp() -> str:
    """The path of the OpenMP library in this process. Raises OSError where there is none."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        path = line.rpartition(" ")[2]
        if "libgomp" in path:
            return path
    raise OSError("torch has loaded no libgomp")


def _cpu_flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return frozenset(value.split())
    return frozenset()
