"""Compiled code: takes checked arrays, writes into buffers it is given.

An index, from the top down; imports run from the bottom up.

operations
    The registry: every operation with its kernels by regime.
softmax, softmax_backward, cross_entropy, linear, linear_cross_entropy, bias_grad, labels
    Functions over whole arrays.
pool, probes
    Numba's threads for all kernels; what the machine can do.
drivers, regimes
    The loops over rows, one for each regime, and which regime it is.
rows
    One row's mathematics: `rows.loss` has the loss and its options.
gemm
    Products of matrices.
vecmath
    exp, log1p, quotients, double-double.
simd
    The vector language.
tuning
    Every threshold and tile size.
compiling
    From a function to machine code, and to the cache.

`docs/architecture.md` says which equation stands where, and what must stay true. "(M12)" in a comment, here or in the
package around this one, is an entry of `docs/measurements.md`.
"""
