"""Which twin of a kernel runs."""

from numba import get_num_threads

from fastsoftmax.kernels.jit import Kernel

# Below this many elements one thread is done before a second has begun.
SERIAL_BELOW = 32_768


def run(kernel: Kernel, elements: int, *args: object) -> None:
    """Run the serial twin on little work or a single thread, the parallel twin else."""
    twin = kernel.serial if elements < SERIAL_BELOW or get_num_threads() == 1 else kernel.parallel
    twin(*args)
