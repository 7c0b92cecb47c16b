"""From a function over whole arrays to machine code: a staging front end, Numba's compiler, the cache on disk."""
