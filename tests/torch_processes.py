"""`fastsoftmax.torch` in several processes. As a script, `python torch_processes.py KIND`, it compares what they get.

A script of its own, because processes that are spawned import the module of what they run.
"""

import multiprocessing
import sys
import tempfile
import zlib
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

import fastsoftmax.torch as ft

ROWS, FEATURES, CLASSES = 512, 8, 1100
PROCESSES = 2


class Model(torch.nn.Module):
    """A head that is fused, beside one whose logits exist."""

    def __init__(self, module):
        super().__init__()
        torch.manual_seed(0)
        self.module = module
        self.body = torch.nn.Linear(FEATURES, FEATURES)
        self.head = torch.nn.Linear(FEATURES, CLASSES)

    def forward(self, x, target):
        hidden = self.body(x).tanh()
        fused = self.module.linear_cross_entropy(hidden, self.head.weight, target, linear_bias=self.head.bias)
        loss = self.module.cross_entropy(hidden @ self.head.weight.T, target)
        if self.module is ft:
            assert fused.grad_fn.name() == "EagerBackward"
            assert loss.grad_fn.name() == "EagerBackward"
        return fused + loss


def batch():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, FEATURES, generator=generator)
    return x, torch.randint(CLASSES, (ROWS,), generator=generator)


def train(rank, store):
    """Compare the gradients of all processes' batches with those of one process, of PyTorch's own losses."""
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=PROCESSES)
    x, target = batch()
    own = slice(rank * ROWS // PROCESSES, (rank + 1) * ROWS // PROCESSES)
    alone = Model(F)
    alone(x, target).backward()
    for wrap in (DistributedDataParallel, lambda model: fully_shard(model, mesh=dist.init_device_mesh("cpu", (2,)))):
        model = wrap(Model(ft))
        for _ in range(2):
            model.zero_grad()
            model(x[own], target[own]).backward()
        for got, want in zip(model.parameters(), alone.parameters(), strict=True):
            grad = got.grad.full_tensor() if hasattr(got.grad, "full_tensor") else got.grad
            torch.testing.assert_close(grad, want.grad, rtol=1e-4, atol=1e-6)
    dist.barrier()
    dist.destroy_process_group()


def distributed():
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        other = multiprocessing.get_context("spawn").Process(target=train, args=(1, store))
        other.start()
        train(0, store)
        other.join()
        return other.exitcode == 0


class Losses(Dataset):
    """What is computed in a worker: a loss, and the bits of its gradient."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        logits = torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(index), requires_grad=True)
        loss = ft.cross_entropy(logits, batch()[1])
        assert loss.grad_fn.name() == "EagerBackward"
        loss.backward()
        return [loss.item(), zlib.crc32(logits.grad.numpy())]


def data_loader_workers():
    expected = [Losses()[i] for i in range(len(Losses()))]  # in parallel, so that there are threads when it forks
    for method in ("fork", "spawn", "forkserver"):
        loader = DataLoader(Losses(), batch_size=None, num_workers=1, multiprocessing_context=method)
        if list(loader) != expected:
            return False
    return True


KINDS = {"distributed": distributed, "data_loader_workers": data_loader_workers}

if __name__ == "__main__":
    print(KINDS[sys.argv[1]]())
