"""Class labels, checked before anything is read or written by them: Numba checks no bounds."""

import numpy as np

from .jit import serial


@serial
def count_labels(labels, n_classes, ignore_index):
    """Count the labels that are not ignored; if one is no class, return −1 − its row."""
    counted = 0
    wrong = 0
    for row in range(labels.size):
        counts = labels[row] != ignore_index
        counted += counts
        # A negative label is a huge unsigned one: one comparison finds both kinds.
        wrong += counts & (np.uint64(labels[row]) >= np.uint64(n_classes))
    if wrong:
        for row in range(labels.size):
            label = labels[row]
            if label != ignore_index and (label < 0 or label >= n_classes):
                return -1 - row
    return counted
