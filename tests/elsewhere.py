"""A device that is not there: tensors that say they lie on it refuse to be mixed with the processor's, as on a GPU."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("lazy:0")  # a name that torch knows; its own tensors of that name are never made


class Away(torch.Tensor):
    """A tensor of the processor under another device's name."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor):
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=DEVICE, requires_grad=False
        )

    def __init__(self, inner: torch.Tensor):
        self.inner = inner

    def data_ptr(self) -> int:
        """Where the numbers are."""
        return self.inner.data_ptr()

    def tolist(self) -> list:
        """The numbers; torch itself refuses it to every subclass."""
        return self.inner.tolist()

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Outside of the mode: as inside."""
        return run(func, args, kwargs or {})


class Elsewhere(TorchDispatchMode):
    """While it is active ``DEVICE`` can be used; an operation on tensors of both devices raises RuntimeError.

    Inference mode would hide what some operations are made of: without gradients, keep it off.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        """One operation, on the processor, of what lies elsewhere."""
        return run(func, args, kwargs or {})


def run(func, args, kwargs):
    """Refuse a mix, but for single numbers; otherwise compute and put the result where torch would."""
    flat = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, torch.Tensor)]
    away = [x for x in flat if isinstance(x, Away)]
    moves = func.overloadpacket.__name__ in ("_to_copy", "copy_")
    if away and not moves and any(x.dim() for x in flat if not isinstance(x, Away)):
        shapes = [(tuple(x.shape), str(x.device)) for x in flat]
        raise RuntimeError(f"{func} mixes devices: {shapes}.")
    there = (kwargs.get("device") or (DEVICE if away else None)) == DEVICE
    if kwargs.get("device"):
        kwargs = kwargs | {"device": torch.device("cpu")}
    found = func(*tree_map_only(Away, lambda x: x.inner, args), **tree_map_only(Away, lambda x: x.inner, kwargs))
    same = {id(x.inner): x for x in away}  # what is changed in place comes back itself
    return tree_map_only(torch.Tensor, lambda x: same[id(x)] if id(x) in same else Away(x), found) if there else found
