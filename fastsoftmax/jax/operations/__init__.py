"""Operations of JAX's that handlers do on the CPU, with formulas for other devices, and derivatives of any order.

An index, from the top down; imports run from the bottom up.

head
    The linear layer with its loss.
rows
    Softmax, log_softmax, logsumexp and losses of rows.
linear
    What their derivatives are made of.
base
    What an operation is, and the primitive that JAX knows it by.
sharing
    Rows that devices share.
"""
