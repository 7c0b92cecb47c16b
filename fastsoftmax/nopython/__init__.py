"""The public functions inside nopython code: what `fastsoftmax.njit` registers with Numba, from the top down.

losses, activations, layer, head, curvature
    The public functions, each an implementation for the types of its arguments.
options, labels, rows
    What may come in, as kernels take it; what they gave, as the caller asked for it.
problems
    What is wrong with an argument, and the error that says so.
calls
    Which kernel runs, on which threads.
symbols
    How compiled code finds it.

`typing` has what they all know of Numba's types.
"""
