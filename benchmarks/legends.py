"""What the report says above its tables of comparisons, and what their second column is called."""

_COSTS = (
    "then the time, the rate at which the bytes that must move did so, and the share of the roofline: the least time "
    "that memory and exp allow on this machine"
)
_FORM = "medians of interleaved rounds, each library in its best form"

LEGENDS = {
    "benchmarks": (
        f"How many times faster than each library (in bold: slower); {_COSTS} (the arithmetic of matrix products is "
        f"not counted). float32, {_FORM}. The products alone are no contender but a yardstick, and so is the same call "
        "with the weight as the transpose of a (C, D) array."
    ),
    "half": (
        "How many times faster than each library with the same arrays of the same half type (in bold: slower), and "
        f"than this library's own call with the same numbers in float32; {_COSTS}. bfloat16 and float16, {_FORM}."
    ),
    "layouts": (
        "How many times faster than each library with the same arrays (in bold: slower), and than this library's own "
        f"call on the same rows with their classes last, which lie there so beforehand; {_COSTS}. float32, {_FORM}."
    ),
}
SECOND = {"half": "rows × classes, dtype", "layouts": "shape, classes second"}
