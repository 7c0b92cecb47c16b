"""Class labels, checked before anything is read or written by them: Numba checks no bounds."""

from .jit import serial


@serial
def count_labels(labels, n_classes, ignore_index):
    """Count the labels that are not ignored; if one is no class, return −1 − its row."""
    counted = 0
    wrong = 0
    for label in labels:
        counted += label != ignore_index
        wrong += (label != ignore_index) & ((label < 0) | (label >= n_classes))
    if wrong:
        for row in range(labels.size):
            label = labels[row]
            if label != ignore_index and (label < 0 or label >= n_classes):
                return -1 - row
    return counted
