"""The uniform behind each sampled token: a function of (seed, position) alone.

SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators",
OOPSLA 2014) used as a counter-based generator: the seed chooses a stream, the
position is the counter. No state is kept, so nothing has to be restored when a
sequence resumes elsewhere or shares a batch with others.
"""

from __future__ import annotations

_MASK = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # 2**64 / golden ratio, odd
_UNIFORM_BITS = 48  # few enough that u * total stays below total in float64


def uniform(seed: int, position: int) -> float:
    """A number strictly between 0 and 1."""
    stream = _mix((seed & _MASK) ^ _GOLDEN_GAMMA)
    bits = _mix((stream + (position + 1) * _GOLDEN_GAMMA) & _MASK)
    return ((bits >> (64 - _UNIFORM_BITS)) + 0.5) * 2.0**-_UNIFORM_BITS


def derived_seed(seed: int, index: int) -> int:
    """The seed of answer `index` to one prompt: 64 bits; that of the first is `seed` itself."""
    return seed if index == 0 else _mix(_mix(seed & _MASK) + index * _GOLDEN_GAMMA & _MASK)


def _mix(value: int) -> int:
    """SplitMix64's finalizer, a bijection of 64-bit words."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
