"""What `fastsoftmax.jax` does to a process: several devices, its threads, kept computations, the order of imports."""

import sys

import pytest

pytest.importorskip("jax")
pytest.importorskip("optax")

TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}

DEVICES = """
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import fastsoftmax as fs
import fastsoftmax.jax as fj

rng = np.random.default_rng(0)
z, y = rng.standard_normal((256, 2000)).astype(np.float32), rng.integers(2000, size=256)
x, w = rng.standard_normal((256, 16)).astype(np.float32), rng.standard_normal((16, 70)).astype(np.float32)
want, gradient = fs.cross_entropy_with_grad(z, y, reduction="none")
auto, explicit = (jax.make_mesh((2,), ("rows",), axis_types=(kind,)) for kind in (AxisType.Auto, AxisType.Explicit))


def losses(library, z, y):
    return library.softmax_cross_entropy_with_integer_labels(z, y)


def step_of(library):
    return jax.jit(jax.value_and_grad(lambda z, y: losses(library, z, y).sum()))


def check(result):
    loss, got = map(np.asarray, result)
    np.testing.assert_array_equal(got, gradient)
    np.testing.assert_allclose(loss, want.sum(), rtol=1e-6)


# Rows that are shared stay where they are, whoever says so.
for mesh in (auto, explicit):
    with jax.set_mesh(mesh):
        sharded = [jax.device_put(each, NamedSharding(mesh, P("rows"))) for each in (z, y)]
        program = step_of(fj).lower(*sharded).compile().as_text()
        assert program.count('custom_call_target="fastsoftmax') == 2, program
        assert "f32[128,2000]" in program, program
        assert "all-gather" not in program, program
        result = step_of(fj)(*sharded)
        assert result[1].sharding.spec[0] == "rows", result[1].sharding
        check(result)

# Rows of which devices have parts are put together.
parts = jax.device_put(z, NamedSharding(auto, P(None, "rows")))
check(step_of(fj)(parts, y))


# shard_map, checked and not: labels shared or everybody's, and a layer that all devices have.
def sharded(function, *specs, **keywords):
    return jax.shard_map(function, mesh=auto, in_specs=specs, out_specs=P(), **keywords)


for check_vma in (True, False):
    def total(z, y):
        return jax.lax.psum(losses(fj, z, y).sum(), "rows")

    own, same = (sharded(total, P("rows"), labels, check_vma=check_vma) for labels in (P("rows"), P()))
    check(jax.jit(jax.value_and_grad(own))(z, y))
    np.testing.assert_array_equal(jax.jit(jax.grad(same))(z, y[:128])[:128], gradient[:128])

    def head(x, w, y):
        return jax.lax.pmean(fj.linear_cross_entropy(x, w, None, y), "rows")

    layer = sharded(head, P("rows"), P(), P("rows"), check_vma=check_vma)
    got = jax.jit(jax.value_and_grad(layer, (0, 1)))(x, w, y % 70)
    exact = jax.value_and_grad(lambda x, w: losses(optax, x @ w, y % 70).mean(), (0, 1))(x, w)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(exact)):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)

mean = jax.pmap(lambda z, y: losses(fj, z, y).mean())(z.reshape(2, 128, -1), y.reshape(2, -1))
np.testing.assert_allclose(mean, want.reshape(2, -1).mean(1), rtol=1e-6)


# From many threads at once, on both devices, each large enough to be shared out: all are done, with the same bits, and
# the process has no more threads than it had for optax.
def threads():
    return len(os.listdir("/proc/self/task"))


def work(step, i):
    device = jax.devices()[i % 2]
    mine = [jax.device_put(each, device) for each in (z, y)]
    return [jax.block_until_ready(step(*(mine if (i + k) % 3 else sharded))) for k in range(10)]


sharded = [jax.device_put(each, NamedSharding(auto, P("rows"))) for each in (z, y)]
ours, theirs = step_of(fj), step_of(optax)
counts = []
with ThreadPoolExecutor(8) as executor:
    for step in (theirs, ours, ours):
        results = list(executor.map(lambda i: work(step, i), range(8)))
        counts.append(threads() if os.path.isdir("/proc/self/task") else 0)
for each in results:
    for result in each:
        check(result)
assert counts[2] <= counts[0] + 2, counts  # XLA's own come and go
print("done")
"""


def test_devices_and_threads(run_python):
    """One script, for JAX takes seconds to begin: sharded rows, `shard_map`, `pmap`, and many threads."""
    assert run_python("-c", DEVICES, timeout=300, **TWO_DEVICES) == "done"


KEPT = """
import sys
import jax
import jax.numpy as jnp
import fastsoftmax.jax as fj

jax.config.update("jax_compilation_cache_dir", sys.argv[1])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event))


@jax.jit
def step_that_is_kept(x, w, y):
    loss = fj.softmax_cross_entropy_with_integer_labels(x @ w, y).mean()
    return jax.value_and_grad(lambda w: loss + fj.linear_cross_entropy(x, w, None, y, z_loss=0.1))(w)


x, w, y = jnp.ones((4, 3)), jnp.arange(300.0).reshape(3, 100), jnp.arange(4)
before = len(events)
print(*(float(each.sum()) for each in step_that_is_kept(x, w, y)))
print(events[before:].count("/jax/compilation_cache/cache_hits") > 0)
"""


def test_computations_that_jax_keeps(run_python, tmp_path):
    """Another process finds the computation on disk, and the handlers that it calls by their names."""
    first, second = (run_python("-c", KEPT, str(tmp_path)).splitlines() for _ in range(2))
    assert first[0] == second[0]
    assert (first[1], second[1]) == ("False", "True")


ORDER = """
import sys
for name in sys.argv[1:]:
    __import__(name)
import jax, jax.numpy as jnp, numpy as np
import fastsoftmax as fs, fastsoftmax.jax as fj

z, y = np.random.default_rng(0).standard_normal((300, 400)).astype(np.float32), np.zeros(300, int)
for _ in range(2):  # Numba's threads and XLA's in turn
    want, gradient = fs.cross_entropy_with_grad(z, y)
    loss, got = jax.value_and_grad(lambda z: fj.softmax_cross_entropy_with_integer_labels(z, y).mean())(z)
np.testing.assert_allclose(loss, want, rtol=1e-6)
np.testing.assert_allclose(got, gradient, rtol=1e-6, atol=1e-9)
print("done")
"""


@pytest.mark.parametrize("order", ["jax fastsoftmax", "fastsoftmax jax", "fastsoftmax.jax"])
def test_order_of_imports(order, run_python):
    assert run_python("-c", ORDER, *order.split()) == "done"


def test_without_jax(monkeypatch):
    """The error names the extra."""
    for name in [name for name in sys.modules if name.startswith("fastsoftmax.jax")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match=r"fastsoftmax\.jax needs JAX: pip install 'fastsoftmax\[jax\]'"):
        __import__("fastsoftmax.jax")


def test_without_compiled_code(run_python):
    """Where Numba compiles nothing JAX computes itself."""
    script = """
import jax.numpy as jnp
import fastsoftmax.jax as fj
print(round(float(fj.softmax_cross_entropy_with_integer_labels(jnp.zeros((2, 4)), jnp.array([1, 3])).sum()), 4))
"""
    assert run_python("-c", script, NUMBA_DISABLE_JIT="1") == "2.7726"
