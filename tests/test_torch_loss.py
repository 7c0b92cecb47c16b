"""`fastsoftmax.torch.cross_entropy` and PyTorch's own in float64: values, gradients, dtypes, layouts."""

import inspect

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812

import fastsoftmax.torch as ft  # noqa: E402
from fastsoftmax.torch import routing  # noqa: E402

pytestmark = pytest.mark.usefixtures("ours_in_torch")

CLASSES = 7
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
# Each result is rounded once, PyTorch's reference not at all.
RTOL = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 2**-8, torch.float16: 2**-11}
LAYOUTS = {
    "(C,)": lambda z: z[0, :, 0, 0],
    "(N, C)": lambda z: z[:, :, 0, 0].contiguous(),
    "(N, C) by columns": lambda z: z[:, :, 0, 0].T.contiguous().T,
    "(N, C) every other row": lambda z: z[:, :, 0, 0].contiguous()[::2],
    "(N, C, d)": lambda z: z[:, :, :, 0].contiguous(),
    "(N, T, C) turned": lambda z: z[:, :, :, 0].mT.contiguous().mT,
    "(N, C, H, W)": lambda z: z.contiguous(),
    "(N, C, H, W) channels last": lambda z: z.contiguous(memory_format=torch.channels_last),
    "expanded": lambda z: z[:1, :, :1, 0].expand(5, -1, 4),
}
TARGETS = ["labels", "some ignored", "probabilities", "negative probabilities"]
WEIGHTS = ["none", "positive", "some negative"]


def logits_of(layout, dtype, classes=CLASSES):
    values = 3 * torch.randn(6, classes, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return LAYOUTS[layout](values).to(dtype, memory_format=torch.preserve_format)


def target_of(kind, logits):
    axis, generator = min(1, logits.dim() - 1), torch.Generator().manual_seed(1)
    shape = logits.shape[:axis] + logits.shape[axis + 1 :]
    labels = torch.randint(logits.shape[axis], shape, generator=generator)
    if kind == "some ignored":
        return torch.where(torch.rand(shape, generator=generator) < 0.3, -100, labels) if shape else labels
    if kind == "labels":
        return labels
    probs = torch.randn(logits.shape, generator=generator, dtype=torch.float64).softmax(axis)
    return (probs - 0.1 * (kind == "negative probabilities")).to(logits.dtype)


def weight_of(kind, logits):
    if kind == "none":
        return None
    weight = torch.rand(logits.shape[min(1, logits.dim() - 1)], generator=torch.Generator().manual_seed(2))
    return (weight - 0.2 * (kind == "some negative")).to(logits.dtype)


def with_gradient(function, logits, *args, **options):
    """The loss, and the gradient of its sum with weights that are different from row to row."""
    logits = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    loss = function(logits, *args, **options)
    upstream = torch.linspace(0.5, 2, max(loss.numel(), 1), dtype=torch.float64).reshape(loss.shape).to(loss.dtype)
    return loss.detach(), *torch.autograd.grad(loss, logits, upstream)


def assert_close(got, exact, dtype):
    """Within a rounding or a few, of the largest entry where terms cancel."""
    got, exact = got.double(), exact.double()
    atol = RTOL[dtype] * max(exact.abs().max().item(), 1e-30) if exact.numel() else 0
    torch.testing.assert_close(got, exact, rtol=2 * RTOL[dtype], atol=atol, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("weight", WEIGHTS)
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_same_as_pytorch(reduction, label_smoothing, weight, target, layout, dtype):
    logits = logits_of(layout, dtype)
    target, weight = target_of(target, logits), weight_of(weight, logits)
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    assert routing.takes_loss(logits, target, weight, reduction, -100, label_smoothing)
    loss, gradient = with_gradient(ft.cross_entropy, logits, target, weight, **options)
    theirs, of_theirs = with_gradient(F.cross_entropy, logits, target, weight, **options)
    assert (loss.dtype, loss.shape) == (theirs.dtype, theirs.shape)
    assert (gradient.dtype, gradient.shape) == (of_theirs.dtype, of_theirs.shape)
    wide = [None if each is None else each.double() if each.is_floating_point() else each for each in (target, weight)]
    exact, of_exact = with_gradient(F.cross_entropy, logits.double(), *wide, **options)
    # The factors of rows are rounded to the dtype of the loss, and so is the gradient before and after.
    assert_close(loss, exact, dtype)
    torch.testing.assert_close(
        gradient.double(), of_exact, rtol=6 * RTOL[dtype], atol=6 * RTOL[dtype] * of_exact.abs().max().item()
    )
    with torch.no_grad():
        assert torch.equal(ft.cross_entropy(logits, target, weight, **options), loss)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_many_classes(dtype):
    logits = logits_of("(N, C)", dtype, classes=300)
    target = target_of("labels", logits)
    loss, gradient = with_gradient(ft.cross_entropy, logits, target)
    exact, of_exact = with_gradient(F.cross_entropy, logits.double(), target)
    assert_close(loss, exact, dtype)
    assert_close(gradient, of_exact, dtype)


@pytest.mark.parametrize("kind", ["all ignored", "inf", "-inf", "nan", "weights of zero"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_what_is_not_finite(kind, reduction):
    logits, weight = logits_of("(N, C)", torch.float64), None
    target = target_of("labels", logits)
    if kind == "all ignored":
        target[:] = -100
    elif kind == "weights of zero":
        weight = torch.zeros(CLASSES, dtype=torch.float64)
    else:
        logits[1, (target[1] + 1) % CLASSES] = float(kind)
    loss, _ = with_gradient(ft.cross_entropy, logits, target, weight, reduction=reduction)
    theirs, _ = with_gradient(F.cross_entropy, logits, target, weight, reduction=reduction)
    torch.testing.assert_close(loss, theirs, equal_nan=True)


@pytest.mark.parametrize(("size_average", "reduce"), [(None, True), (True, None), (False, True), (True, False)])
def test_old_names_of_reductions(size_average, reduce):
    logits = logits_of("(N, C)", torch.float32)
    target = target_of("labels", logits)
    results = []
    for function in (ft.cross_entropy, F.cross_entropy):
        with pytest.warns(UserWarning, match="size_average and reduce args will be deprecated"):
            results.append(function(logits, target, size_average=size_average, reduce=reduce))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("ignore_index", [0, 3, -1])
def test_ignore_index(ignore_index):
    logits = logits_of("(N, C)", torch.float64)
    target = target_of("labels", logits)
    target[::2] = ignore_index
    ours, theirs = (
        with_gradient(f, logits, target, ignore_index=ignore_index) for f in (ft.cross_entropy, F.cross_entropy)
    )
    for got, want in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, want)


def test_logits_whose_sign_is_put_off():
    """The imaginary part of what is conjugated is stored with the other sign."""
    logits = logits_of("(N, C)", torch.float32)
    negative, target = torch.complex(logits, -logits).conj().imag, target_of("labels", logits)
    assert negative.is_neg()
    torch.testing.assert_close(ft.cross_entropy(negative, target), F.cross_entropy(logits, target))
    leaf = torch.complex(logits, -logits).requires_grad_()
    loss = ft.cross_entropy(leaf.conj().imag, target, inplace_backward=True)
    want = F.cross_entropy(leaf.conj().imag, target)
    torch.testing.assert_close(torch.autograd.grad(loss, leaf), torch.autograd.grad(want, leaf))


def test_gradients_come_without_copies():
    """Logits are read where they are; the gradient is the array that the kernel wrote, until the graph is kept."""
    logits = logits_of("(N, C)", torch.float32).requires_grad_()
    loss = ft.cross_entropy(logits, target_of("labels", logits))
    place = loss.grad_fn.saved_tensors[-1].data_ptr()
    loss.backward()
    assert logits.grad.data_ptr() == place


@pytest.mark.parametrize("factor", [1.0, 3.0])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_graph_that_is_kept(reduction, factor):
    logits = logits_of("(N, C)", torch.float64).requires_grad_()
    loss = ft.cross_entropy(logits, target_of("labels", logits), reduction=reduction)
    expected = F.cross_entropy(logits, target_of("labels", logits), reduction=reduction)
    (want,) = torch.autograd.grad(factor * expected.sum(), logits)
    for times in (1, 2, 3):
        (factor * loss.sum()).backward(retain_graph=True)
        torch.testing.assert_close(logits.grad, times * want)
    logits.grad = None
    (factor * loss.sum()).backward()
    torch.testing.assert_close(logits.grad, want)
    with pytest.raises(RuntimeError, match="second time"):
        loss.sum().backward()


def test_logits_that_were_changed():
    logits = logits_of("(N, C)", torch.float32).requires_grad_()
    hidden = logits * 1
    loss = ft.cross_entropy(hidden, target_of("labels", logits))
    hidden.add_(1)
    with pytest.raises(RuntimeError, match="inplace operation"):
        loss.backward()


# In place -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("layout", ["(N, C)", "(N, C, d)", "(N, T, C) turned", "(N, C, H, W) channels last"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_in_place(reduction, target, layout, dtype):
    leaf = logits_of(layout, dtype).requires_grad_()
    target = target_of(target, leaf)
    logits, copy = leaf * 1, leaf * 1
    loss = ft.cross_entropy(logits, target, reduction=reduction, inplace_backward=True)
    assert loss.grad_fn.saved_tensors[-1].data_ptr() == logits.data_ptr()
    want = ft.cross_entropy(copy, target, reduction=reduction)
    assert torch.equal(loss, want)
    upstream = torch.rand_like(loss)
    (got,) = torch.autograd.grad(loss, logits, upstream)
    assert got.data_ptr() == logits.data_ptr()
    assert torch.equal(got, *torch.autograd.grad(want, copy, upstream))
    assert torch.equal(copy, leaf)


def test_in_place_where_it_cannot_be():
    """The gradient has memory of its own where that of the logits is a leaf's, or not a dense block."""
    leaf = logits_of("(N, C)", torch.float32).requires_grad_()
    target = target_of("labels", leaf)
    for logits in (leaf, (leaf * 1)[::2]):
        before = logits.detach().clone()
        loss = ft.cross_entropy(logits, target[: len(logits)], inplace_backward=True)
        assert torch.equal(before, logits)
        assert loss.grad_fn.saved_tensors[-1].data_ptr() != logits.data_ptr()
    with torch.no_grad():
        logits = leaf * 1
        ft.cross_entropy(logits, target, inplace_backward=True)
    assert torch.equal(logits, leaf)


def test_in_place_is_told_to_others():
    """What saved the logits for its own gradient does not compute it from what is no logits any more."""
    leaf = logits_of("(N, C)", torch.float32).requires_grad_()
    logits = leaf.tanh()
    loss = ft.cross_entropy(logits, target_of("labels", leaf), inplace_backward=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    logits = leaf * 1
    loss = ft.cross_entropy(logits, target_of("labels", leaf), inplace_backward=True)
    with pytest.raises(RuntimeError, match="inplace_backward: expected False"):
        torch.autograd.grad(loss, logits, create_graph=True)


def test_in_place_and_a_label_that_is_no_class():
    leaf = logits_of("(N, C)", torch.float32).requires_grad_()
    logits, target = leaf * 1, target_of("labels", leaf)
    target[3] = CLASSES
    with pytest.raises(IndexError, match=r"^target: .* got 7 in row 3$"):
        ft.cross_entropy(logits, target, inplace_backward=True)
    assert torch.equal(logits, leaf)


# Signatures and errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (ft.cross_entropy, F.cross_entropy),
        (ft.linear_cross_entropy, F.linear_cross_entropy),
        (ft.softmax, F.softmax),
        (ft.log_softmax, F.log_softmax),
        (ft.CrossEntropyLoss, torch.nn.CrossEntropyLoss),
    ],
)
def test_signatures(ours, theirs):
    """Names, kinds and defaults are PyTorch's; `inplace_backward` comes after them, by its name alone."""
    got, want = (inspect.signature(each).parameters for each in (ours, theirs))
    got = {name: p for name, p in got.items() if name != "inplace_backward"}
    assert [(p.name, p.kind, p.default) for p in got.values()] == [(p.name, p.kind, p.default) for p in want.values()]
    if "cross_entropy" in ours.__name__.lower().replace("loss", "") and "linear" not in ours.__name__:
        assert inspect.signature(ours).parameters["inplace_backward"].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("label", [-1, CLASSES, 2**40])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_label_that_is_no_class(weighted, label):
    logits = logits_of("(N, C, d)", torch.float32)
    target = target_of("labels", logits)
    target[2, 5] = label
    weight = weight_of("some negative", logits) if weighted else None
    with pytest.raises(
        IndexError, match=f"^target: expected classes 0 to 6 or ignore_index -100, got {label} in row 2"
    ):
        ft.cross_entropy(logits, target, weight)
    with pytest.raises((IndexError, RuntimeError)):
        F.cross_entropy(logits, target, weight)


def test_misuse_is_told_by_pytorch():
    logits = logits_of("(N, C)", torch.float32)
    target = target_of("labels", logits)
    wrong = [
        (np.zeros((6, 7), np.float32), target),
        (logits, target[:-1]),
        (logits, target.float()),
        (logits, target.to(torch.int32)),
        (logits.long(), target),
        (logits, target, torch.ones(3)),
        (logits, target, torch.ones(7).double()),
        (logits, logits.softmax(1), None, None, 1),
        (logits, target, None, None, -100, None, "average"),
        (logits, target, None, None, -100, None, "mean", 1.5),
        (torch.tensor(1.0), torch.tensor(0)),
    ]
    for arguments in wrong:
        with pytest.raises(Exception) as theirs:  # noqa: PT011
            F.cross_entropy(*arguments)
        with pytest.raises(type(theirs.value)) as ours:
            ft.cross_entropy(*arguments)
        assert str(ours.value) == str(theirs.value)
