"""Class labels, checked before anything is read or written by them: nothing else checks bounds."""

from llvmlite import ir

from .jit import Labels, kernel
from .lanes import build_splat
from .values import INT, Number, builder, number
from .views import address


@kernel
def count_labels(labels: Labels, n_classes: int, ignore_index: int) -> int:
    """Count the labels that are not ignored; if one is no class, return −1 − its row."""
    counted = 0
    wrong = 0
    whole = labels.size // 8 * 8
    for row in range(0, whole, 8):
        some_counted, some_wrong = _count_eight(labels, row, n_classes, ignore_index)
        counted += some_counted
        wrong += some_wrong
    for row in range(whole, labels.size):
        counts = labels[row] != ignore_index
        counted += counts
        wrong += counts & ((labels[row] < 0) | (labels[row] >= n_classes))
    if wrong:
        for row in range(labels.size):
            label = labels[row]
            if label != ignore_index and (label < 0 or label >= n_classes):
                return -1 - row
    return counted


def _count_eight(labels, row, n_classes, ignore_index):
    """Count the labels of eight rows that are not ignored, and those of them that are no class."""
    build, kind = builder(), ir.VectorType(INT, 8)
    found = build.load(address(labels, row, 8), typ=kind, align=8)
    counts = build.icmp_signed("!=", found, build_splat(kind, number(ignore_index).ir))
    # A negative label is a huge unsigned one: one comparison finds both kinds.
    wrong = build.and_(counts, build.icmp_unsigned(">=", found, build_splat(kind, number(n_classes).ir)))
    bits = (build.bitcast(each, ir.IntType(8)) for each in (counts, wrong))
    return tuple(Number(build.zext(build.ctpop(each), INT)) for each in bits)
