"""`fastsoftmax.torch` in what PyTorch compiles, exports and traces: our operators, their shapes, their gradients."""

import shutil

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from functorch.compile import make_boxed_func  # noqa: E402
from torch._dynamo.backends.common import aot_autograd  # noqa: E402
from torch.fx.experimental.proxy_tensor import make_fx  # noqa: E402
from torch.library import opcheck  # noqa: E402

import fastsoftmax.torch as ft  # noqa: E402
from fastsoftmax.torch import routing  # noqa: E402
from tests.test_torch_loss import LAYOUTS, logits_of, target_of, weight_of  # noqa: E402

CLASSES = 7
OURS = torch.ops.fastsoftmax

pytestmark = [  # what PyTorch itself does while it compiles
    pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
]


@pytest.fixture(autouse=True)
def compiled_anew(monkeypatch):
    """Ours is whatever has 200 logits."""
    for name in ("SMALLEST_LOSS", "SMALLEST_LOSS_ALONE", "SMALLEST_LOGSUMEXP", "SMALLEST_HEAD", "SMALLEST_SOFTMAX"):
        monkeypatch.setattr(routing, name, 200)
    torch.compiler.reset()


class Graphs:
    """A backend of torch.compile that keeps the graphs of forward and backward passes, and runs them as they are."""

    def __init__(self):
        self.forward, self.backward = [], []

    def __call__(self, module, inputs):
        def keep(graphs):
            def compiler(graph, inputs):
                graphs.append({str(node.target) for node in graph.graph.nodes})
                return make_boxed_func(graph)

            return compiler

        return aot_autograd(fw_compiler=keep(self.forward), bw_compiler=keep(self.backward))(module, inputs)


def case(rows=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, CLASSES, generator=generator)
    return logits, torch.randint(CLASSES, (rows,), generator=generator)


def gradients(function, *leaves, rest=()):
    leaves = [leaf.detach().clone().requires_grad_() for leaf in leaves]
    loss = function(*leaves, *rest)
    return [loss.detach(), *torch.autograd.grad(loss.sum(), leaves)]


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compile(reduction, dynamic):
    graphs = Graphs()

    def step(function, logits, target):
        return 3 * function(2 * logits, target, label_smoothing=0.1, reduction=reduction)

    compiled = torch.compile(step, fullgraph=True, dynamic=dynamic, backend=graphs)
    for rows in (40, 50, 60, 5):
        logits, target = case(rows)
        ours = gradients(lambda *args: compiled(ft.cross_entropy, *args), logits, rest=(target,))
        theirs = gradients(lambda *args: step(F.cross_entropy, *args), logits, rest=(target,))
        torch.testing.assert_close(ours, theirs)
    *large, small = graphs.forward
    assert len(large) == (1 if dynamic else 3)
    assert all("fastsoftmax.cross_entropy_with_grad.default" in graph for graph in large)
    assert not any("softmax" in name for graph in graphs.backward[:-1] for name in graph)  # there is nothing left to do
    assert "aten._log_softmax.default" in small


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_compile_softmax_and_its_kin(name):
    graphs = Graphs()

    def step(module, logits):
        return getattr(module, name)(logits, 1) ** 2

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=graphs)
    logits, _ = case()
    ours = gradients(lambda logits: compiled(ft, logits), logits)
    torch.testing.assert_close(ours, gradients(lambda logits: step(torch, logits), logits))
    assert f"fastsoftmax.{name}.default" in graphs.forward[0]
    assert any(target.startswith("fastsoftmax") for target in graphs.backward[0])


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compile_head(reduction):
    graphs = Graphs()

    def step(module, x, w, target):
        return module.linear_cross_entropy(x, w, target, reduction=reduction)

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=graphs)
    x, target = case()
    w = torch.randn(9, CLASSES, generator=torch.Generator().manual_seed(1))
    ours = gradients(lambda *args: compiled(ft, *args), x, w, rest=(target,))
    torch.testing.assert_close(ours, gradients(lambda *args: step(F, *args), x, w, rest=(target,)))
    called = graphs.forward[0] if reduction == "mean" else graphs.backward[0]
    assert "fastsoftmax.linear_cross_entropy_with_grad.default" in called
    assert "aten._log_softmax.default" not in graphs.forward[0] | graphs.backward[0]


@pytest.mark.skipif(not shutil.which("g++"), reason="needs a C++ compiler")
def test_compile_by_inductor():
    def step(function, logits, target):
        return function(2 * logits, target) + logits.square().mean()

    compiled = torch.compile(step, fullgraph=True, dynamic=True)
    logits, target = case()
    ours = gradients(lambda *args: compiled(ft.cross_entropy, *args), logits, rest=(target,))
    torch.testing.assert_close(ours, gradients(lambda *args: step(F.cross_entropy, *args), logits, rest=(target,)))


def test_compile_what_torch_func_transforms():
    """PyTorch's own function: in a graph no operator of ours would be asked for its gradient."""
    logits, target = case()
    for transform in (torch.func.grad_and_value, torch.func.vmap, lambda f: torch.func.vmap(torch.func.grad(f))):
        ours, theirs = (
            transform(lambda z, y, function=function: function(z, y))
            for function in (ft.cross_entropy, F.cross_entropy)
        )
        given = logits, target
        if transform is not torch.func.grad_and_value:
            given = torch.stack([logits, -logits]), torch.stack([target, target])
        compiled = torch.compile(ours, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(*given), theirs(*given))


def test_compile_in_place():
    """What is compiled has its memory planned by the compiler: the logits stay what they are."""
    logits, target = case()
    compiled = torch.compile(
        lambda z: ft.cross_entropy(z, target, inplace_backward=True), fullgraph=True, backend="aot_eager"
    )
    before = logits.clone().requires_grad_()
    hidden = before * 1
    (got,) = torch.autograd.grad(compiled(hidden), before)
    torch.testing.assert_close(got, gradients(F.cross_entropy, logits, rest=(target,))[1])
    assert torch.equal(hidden, logits)


class Loss(torch.nn.Module):
    def forward(self, logits, target):
        return ft.cross_entropy(2 * logits, target)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_export(dynamic, strict):
    """With sizes that are not known, no size is too small."""
    rows = torch.export.Dim("rows", min=2, max=10_000)
    sizes = ({0: rows}, {0: rows}) if dynamic else None
    program = torch.export.export(Loss(), case(), dynamic_shapes=sizes, strict=strict)
    assert "torch.ops.fastsoftmax.cross_entropy.default" in program.graph_module.code
    for rows in (40, 50, 3) if dynamic else (40,):
        logits, target = case(rows)
        torch.testing.assert_close(program.module()(logits, target), F.cross_entropy(2 * logits, target))


def test_export_of_a_head():
    class Head(torch.nn.Module):
        def forward(self, x, w, target):
            return ft.linear_cross_entropy(x, w, target)

    x, target = case()
    w, rows = torch.randn(9, CLASSES), torch.export.Dim("rows", min=2, max=10_000)
    program = torch.export.export(Head(), (x, w, target), dynamic_shapes=({0: rows}, None, {0: rows}))
    assert "torch.ops.fastsoftmax.linear_cross_entropy.default" in program.graph_module.code
    x, target = case(50)
    torch.testing.assert_close(program.module()(x, w, target), F.linear_cross_entropy(x, w, target))


def test_export_of_a_module_that_is_trained():
    model = torch.nn.Linear(CLASSES, CLASSES)

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x, target):
            return ft.cross_entropy(self.model(x), target)

    x, target = case()
    program = torch.export.export(Step(), (x, target))
    program.module()(x, target).backward()
    want = torch.autograd.grad(F.cross_entropy(model(x), target), list(model.parameters()))
    torch.testing.assert_close([p.grad for p in program.module().parameters()], list(want))


def test_make_fx():
    """What watches operators sees ours, and not a number that was computed once."""
    logits, target = case()
    traced = make_fx(lambda logits: ft.cross_entropy(logits, target))(logits)
    assert "fastsoftmax.cross_entropy" in traced.code
    torch.testing.assert_close(traced(3 * logits), F.cross_entropy(3 * logits, target))
    traced = make_fx(torch.func.grad(lambda logits: ft.cross_entropy(logits, target)))(logits)
    want = torch.func.grad(lambda logits: F.cross_entropy(logits, target))(3 * logits)
    torch.testing.assert_close(traced(3 * logits), want)


def test_tensors_without_values():
    logits, target = case()
    with torch._subclasses.FakeTensorMode() as mode:
        fake = mode.from_tensor(logits).requires_grad_()
        loss = ft.cross_entropy(fake, mode.from_tensor(target))
        (gradient,) = torch.autograd.grad(loss, fake)
        assert (loss.shape, gradient.shape) == ((), logits.shape)
    assert ft.cross_entropy(logits.to("meta"), target.to("meta")).is_meta
    with torch.device("meta"):
        torch.testing.assert_close(ft.cross_entropy(logits, target), F.cross_entropy(logits, target))


def test_jit_trace():
    """PyTorch's own function: a trace for all sizes has no room for one of ours."""
    logits, target = case()
    traced = torch.jit.trace(lambda logits: ft.cross_entropy(logits, target), logits)
    assert "fastsoftmax" not in str(traced.graph)
    torch.testing.assert_close(traced(3 * logits), F.cross_entropy(3 * logits, target))


# Operators ------------------------------------------------------------------------------------------------------------

SHAPES = ("test_schema", "test_autograd_registration", "test_faketensor")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_operators_of_the_loss(dtype, layout):
    """Schema, shapes, strides and gradients are what compilers take them for."""
    for kind, reduction in (("labels", "none"), ("probabilities", "mean")):
        logits = logits_of(layout, dtype).requires_grad_()
        given = logits, target_of(kind, logits), weight_of("positive", logits)
        options = reduction, -100, 0.1, torch.float32 if reduction == "mean" else dtype
        # Once with what compilers make of it, which takes seconds.
        tests = {} if (layout, dtype) == ("(N, T, C) turned", torch.float32) else {"test_utils": SHAPES}
        opcheck(OURS.cross_entropy.default, (*given, *options), **tests)
        opcheck(OURS.cross_entropy_with_grad.default, (*given, *options), **tests)
        opcheck(OURS.cross_entropy_hvp.default, (*given, torch.randn_like(logits), *options), **tests)


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_operators_of_the_head(reduction):
    x, target = case()
    w, b = torch.randn(9, CLASSES, requires_grad=True), torch.randn(9, requires_grad=True)
    options = 2**20, reduction, -100, 0.1, torch.float32
    factors = torch.rand(len(x)) if reduction == "none" else None
    for bias, tests in ((b, {}), (None, {"test_utils": SHAPES})):
        given = x.requires_grad_(), w, bias, target, None
        opcheck(OURS.linear_cross_entropy.default, (*given, *options), **tests)
        opcheck(OURS.linear_cross_entropy_with_grad.default, (*given, factors, True, *options), **tests)


@pytest.mark.parametrize("axes", [[1], [-2], [0, 2]])
def test_operators_of_softmax_and_its_kin(axes):
    logits = torch.randn(4, 5, 6).mT.requires_grad_()
    tests = {} if axes == [1] else {"test_utils": SHAPES}
    for name in ("softmax", "log_softmax", "logsumexp"):
        opcheck(getattr(OURS, name).default, (logits, axes), **tests)
    probs = logits.detach().softmax(1).requires_grad_()
    for name in ("softmax_backward", "log_softmax_backward"):
        opcheck(getattr(OURS, name).default, (probs, torch.randn_like(logits).requires_grad_(), axes), **tests)
