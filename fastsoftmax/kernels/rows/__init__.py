"""The mathematics of one row, and each regime's way through it."""
