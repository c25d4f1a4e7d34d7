"""Models built without random initialisation, which their weights replace."""

from collections.abc import Callable, Mapping
from typing import Final, final

from torch import Tensor
from torch.nn import init
from torch.overrides import TorchFunctionMode

_DRAWS: Final = (init.kaiming_uniform_, init.normal_, init.uniform_, Tensor.normal_, Tensor.uniform_)


@final
class Undrawn(TorchFunctionMode):
    """A mode in which random initialisation leaves weights uninitialised; all other values are set.

    PyTorch's meta device does so too, but draws from it import SymPy, which takes two seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        return None if func in _DRAWS else func(*args, **(kwargs or {}))
