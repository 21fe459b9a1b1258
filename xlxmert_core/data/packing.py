"""Tensors by name as a weight file keeps them: in 32, 16 or 8 bits, and none of those that another file has.

In 8 bits a matrix is int8, and float32 ``name.scale`` beside it holds what each of its rows is to be multiplied by:
the first axis are the rows, as of weights [out, in, ...]. Vectors take 16 bits then.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

BITS = (8, 16, 32)
SCALE = ".scale"
LARGEST = 127  # of a whole number in 8 bits, with either sign
SHORTEST = 8  # numbers in a row that are worth a scale of 4 bytes
CLIPS, STEP = 21, 0.01  # shares of a row's largest number that its scale is tried at: 1, 0.99, ... 0.8; a guess


def narrowed(state: "Mapping[str, Tensor]", bits: int) -> "dict[str, Tensor]":
    """The tensors on the CPU, in so many bits; whole numbers stay as they are. Raises ValueError for other bits."""
    if bits not in BITS or isinstance(bits, bool):
        raise ValueError(f"Weights are saved in 8, 16 or 32 bits, not in {bits!r}.")
    found = {}
    for name, value in state.items():
        value = value.detach().cpu()
        if bits == 8 and value.is_floating_point() and value.ndim > 1 and value.numel() >= SHORTEST * len(value):
            found[name], found[name + SCALE] = _rounded(value)
        else:
            found[name] = value.half() if bits < 32 and value.is_floating_point() else value
    return {name: value.contiguous() for name, value in found.items()}


def _rounded(value: "Tensor") -> "tuple[Tensor, Tensor]":
    """A matrix [n, ...] -> (int8 [n, ...], scale [n]), each row with the scale of least squared error.

    Tried are shares of the row's largest number, each moved to the best one for the whole numbers that it gives. A row
    with numbers that are none keeps a scale that is none, and is refused when the file is opened. What was rounded so
    stays as it is when it is rounded again: the largest whole number is LARGEST, and a scale has few digits.
    """
    rows = value.flatten(1).float()
    largest = rows.abs().amax(1, keepdim=True) / LARGEST  # [n, 1]
    scale, best, least = largest, rows.new_zeros(rows.shape), largest.new_full(largest.shape, float("inf"))
    for clip in range(CLIPS):
        whole = _whole(rows, (largest * (1 - STEP * clip)).where(largest != 0, 1))
        tried = _short((rows * whole).sum(1, keepdim=True) / whole.square().sum(1, keepdim=True).clamp_min(1))
        error = (rows - whole * tried).square().sum(1, keepdim=True)
        better = error < least
        scale, best, least = tried.where(better, scale), whole.where(better, best), error.where(better, least)
    return best.char().view(value.shape), scale[:, 0]


def _short(scale: "Tensor") -> "Tensor":
    """Numbers of fifteen binary digits, so that products with 8 bits are exact."""
    mantissa, exponent = scale.frexp()
    return (mantissa * 2**15).round().ldexp(exponent - 15)


def _whole(rows: "Tensor", scale: "Tensor") -> "Tensor":
    return (rows / scale).round().clamp(-LARGEST, LARGEST)


def widened(state: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The reverse of :func:`narrowed`, as float32 where there were 8 bits; what has no fitting scale stays as it is."""
    found = dict(state)
    for name in [name for name in state if name + SCALE in state]:
        value, scale = state[name], state[name + SCALE]
        small = str(value.dtype) == "torch.int8" and value.ndim > 1  # which who reads files alone need not import
        if small and scale.is_floating_point() and scale.shape == value.shape[:1]:
            found[name] = value.float() * scale.float().view(-1, *[1] * (value.ndim - 1))
            del found[name + SCALE]
    return found


def left_out(state: "Mapping[str, Tensor]", others: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """A state in which an empty tensor stands for each that is, number by number, the same in the others."""
    found = dict(state)
    for name, other in others.items():
        value = state.get(name, other.new_empty(0))
        if value.dtype == other.dtype and value.cpu().equal(other.cpu()):
            found[name] = value.new_empty(0)
    return {name: found[name] for name in state}


def filled_in(state: "Mapping[str, Tensor]", others: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """The reverse of :func:`left_out`, with the same others."""
    return {name: others.get(name, value) if tuple(value.shape) == (0,) else value for name, value in state.items()}
