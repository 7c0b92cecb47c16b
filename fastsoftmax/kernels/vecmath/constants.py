"""Numbers in every lane."""

import math

from ..simd.vector import (
    constant,
)

zero = constant(0.0, 0.0)
one = constant(1.0, 1.0)
half = constant(0.5, 0.5)
two = constant(2.0, 2.0)
ln2 = constant(math.log(2), math.log(2))
log2_e = constant(1 / math.log(2), 1 / math.log(2))
