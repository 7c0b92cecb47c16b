"""Compiled code: takes checked arrays, writes into buffers it is given."""
