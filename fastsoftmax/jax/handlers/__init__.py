"""Compiled code that XLA calls by its foreign function interface: the only part of this home that knows kernels.

An index, from the top down; imports run from the bottom up.

rows, head
    Handlers of functions of rows, and of the linear layer with its loss: what each takes and gives, and its kernels.
labels, scaling
    Labels, checked; rows times factors.
calls
    Kernels, called by what a handler has.
targets
    Handlers, compiled when they are first asked for, and registered by name.
pool
    Tasks of kernels on XLA's threads.
frames
    A call as compiled code has it.
abi
    The structures of the interface.
"""
