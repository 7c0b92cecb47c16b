"""The linear head, its classifier and losses over classes in shards, for data larger than one machine's memory.

Dask arrays come in by chunks, one task computes what a chunk adds up to, and the sums are merged in a fixed tree: the
same bits on any number of workers. See `docs/dask.md`.
"""

try:
    import dask.array  # noqa: F401
    import sklearn  # noqa: F401
except ImportError as error:
    problem = "fastsoftmax.dask: expected Dask's arrays and scikit-learn to be installed: pip install fastsoftmax[dask]"
    raise ImportError(problem, name=error.name) from error

from fastsoftmax.dask.classes import cross_entropy, logsumexp
from fastsoftmax.dask.classifier import SoftmaxClassifier
from fastsoftmax.dask.head import linear_cross_entropy_with_grad

__all__ = ["SoftmaxClassifier", "cross_entropy", "linear_cross_entropy_with_grad", "logsumexp"]
