"""Element types and shapes of arrays and tensors in signatures: those of jaxtyping where jaxtyping is loaded.

The tests load it before wirebert, and check every call. Elsewhere `Float64[np.ndarray, " flows"]` is
`np.ndarray`: to load jaxtyping would take an eighth of the start of a short command.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "jaxtyping" in sys.modules:
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Float16 as Float16
    from jaxtyping import Float32 as Float32
    from jaxtyping import Float64 as Float64
    from jaxtyping import Int as Int
    from jaxtyping import Int32 as Int32
    from jaxtyping import Int64 as Int64
    from jaxtyping import Integer as Integer
    from jaxtyping import Shaped as Shaped
    from jaxtyping import UInt8 as UInt8
    from jaxtyping import UInt16 as UInt16
    from jaxtyping import UInt32 as UInt32
    from jaxtyping import UInt64 as UInt64
else:

    class _Unchecked:
        def __class_getitem__(cls, array_and_shape: tuple[type, str]) -> type:
            return array_and_shape[0]

    Bool = Shaped = Float = Float16 = Float32 = Float64 = _Unchecked
    Integer = Int = Int32 = Int64 = UInt8 = UInt16 = UInt32 = UInt64 = _Unchecked
