"""`fastsoftmax.torch.linear_cross_entropy` and PyTorch's own: values, gradients, its options, and who computes it."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch.nn import LinearCrossEntropyOptions  # noqa: E402

import fastsoftmax as fs  # noqa: E402
import fastsoftmax.torch as ft  # noqa: E402
from fastsoftmax.torch import routing  # noqa: E402
from tests.test_torch_loss import DTYPES, RTOL  # noqa: E402

ROWS, FEATURES = 30, 9

pytestmark = pytest.mark.usefixtures("ours_in_torch")


def case(classes=7, dtype=torch.float64, rows=ROWS):
    generator = torch.Generator().manual_seed(classes)
    x, w, b, weight = (
        torch.randn(*shape, generator=generator, dtype=torch.float64)
        for shape in ((rows, FEATURES), (classes, FEATURES), (classes,), (classes,))
    )
    target = torch.randint(classes, (rows,), generator=generator)
    return *(each.to(dtype) for each in (x, w, b, weight.abs())), target


def of_layer(function, x, w, b, target, **options):
    """The loss and the gradients of the layer, of the sum of losses that count differently."""
    layer = [each.detach().clone().requires_grad_() for each in (x, w, *([] if b is None else [b]))]
    loss = function(layer[0], layer[1], target, linear_bias=layer[2] if b is not None else None, **options)
    upstream = torch.linspace(0.5, 2, max(loss.numel(), 1), dtype=torch.float64).reshape(loss.shape).to(loss.dtype)
    return [loss.detach(), *torch.autograd.grad(loss, layer, upstream)]


@pytest.fixture
def calls(monkeypatch):
    """What the library's own heads were called with."""
    seen = []
    for name in ("linear_cross_entropy", "linear_cross_entropy_with_grad"):
        function = getattr(fs, name)
        monkeypatch.setattr(fs, name, lambda function=function, **given: seen.append(given) or function(**given))
    return seen


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("classes", [7, 130])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("weighted", ["none", "positive", "some negative"])
@pytest.mark.parametrize("kind", ["labels", "some ignored", "probabilities"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_same_as_pytorch(reduction, label_smoothing, kind, weighted, bias, classes, dtype, calls):
    x, w, b, weight, target = case(classes, dtype)
    if kind == "some ignored":
        target[::3] = -100
    elif kind == "probabilities":
        target = torch.randn(ROWS, classes, generator=torch.Generator().manual_seed(1)).softmax(1).to(dtype)
    weight = {"none": None, "positive": weight, "some negative": weight - weight.mean() / 2}[weighted]
    options = {"reduction": reduction, "label_smoothing": label_smoothing}
    ours = of_layer(ft.linear_cross_entropy, x, w, b if bias else None, target, weight=weight, **options)
    assert calls
    wide = [None if each is None or each.dtype == torch.int64 else each.double() for each in (x, w, b, weight, target)]
    wide[4] = target if wide[4] is None else wide[4]
    exact = of_layer(F.linear_cross_entropy, *wide[:2], wide[2] if bias else None, wide[4], weight=wide[3], **options)
    for got, want, like in zip(ours, exact, (x, x, w, b), strict=False):
        assert got.dtype == like.dtype == dtype
        scale = want.abs().max().item()
        torch.testing.assert_close(got.double(), want, rtol=16 * RTOL[dtype], atol=16 * RTOL[dtype] * scale)
    with torch.no_grad():
        loss = ft.linear_cross_entropy(x, w, target, linear_bias=b if bias else None, weight=weight, **options)
    torch.testing.assert_close(loss, ours[0], rtol=2 * RTOL[dtype], atol=0)


def test_the_layers_gradients_lie_as_its_parameters():
    x, w, b, _, target = case(130)
    loss, dx, dw, db = of_layer(ft.linear_cross_entropy, x, w, b, target)
    assert loss.shape == ()
    assert [each.shape for each in (dx, dw, db)] == [x.shape, w.shape, b.shape]
    assert all(each.is_contiguous() for each in (dx, dw, db))


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_only_what_is_asked_for(reduction, calls):
    """An input that needs no gradient gets none."""
    x, w, b, _, target = case()
    w.requires_grad_()
    b.requires_grad_()
    loss = ft.linear_cross_entropy(x, w, target, linear_bias=b, reduction=reduction)
    loss.sum().backward()
    want = torch.autograd.grad(F.linear_cross_entropy(x, w, target, linear_bias=b, reduction=reduction).sum(), (w, b))
    torch.testing.assert_close([w.grad, b.grad], list(want))
    (given,) = [each for each in calls if "inputs_grad" in each]
    assert given["inputs_grad"] is False


@pytest.mark.parametrize("factor", [1, 3])
def test_a_graph_that_is_kept(factor):
    x, w, b, _, target = case()
    layer = [each.requires_grad_() for each in (x, w, b)]
    want = torch.autograd.grad(factor * F.linear_cross_entropy(x, w, target, linear_bias=b), layer)
    loss = ft.linear_cross_entropy(x, w, target, linear_bias=b)
    for times in (1, 2, 3):
        (factor * loss).backward(retain_graph=times < 3)
        torch.testing.assert_close([each.grad for each in layer], [times * each for each in want])


# LinearCrossEntropyOptions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("options", "rows"),
    [
        (LinearCrossEntropyOptions(batch_chunk_size=4), 4),
        (LinearCrossEntropyOptions(batch_chunk_size=4, allow_retain_graph=True), 4),
        (LinearCrossEntropyOptions(chunking_method="aspect_ratio"), 2),
        (LinearCrossEntropyOptions(chunking_method=None), ROWS),
        (LinearCrossEntropyOptions(batch_chunk_size=1_000), ROWS),
        *(
            (LinearCrossEntropyOptions(acc_policy=p, batch_chunk_size=8), 8)
            for p in ("accurate", "balanced", "compact")
        ),
    ],
)
def test_options_say_how_many_rows_at_a_time(options, rows, dtype, calls):
    x, w, b, weight, target = case(130, dtype)
    arguments = {"weight": weight, "options": options}
    loss, *grads = of_layer(ft.linear_cross_entropy, x, w, b, target, **arguments)
    plain = of_layer(ft.linear_cross_entropy, x, w, b, target, weight=weight)
    size = 8 if dtype == torch.float64 else 4
    assert [given["workspace"] for given in calls] == [rows * 130 * size, 32 * 2**20]
    torch.testing.assert_close([loss, *grads], plain, rtol=8 * RTOL[dtype], atol=8 * RTOL[dtype])


def test_options_that_pytorch_refuses():
    x, w, _, _, target = case(130, torch.float32)
    for options, error in (
        (LinearCrossEntropyOptions(batch_chunk_size=5, chunking_method="aspect_ratio"), ValueError),
        (LinearCrossEntropyOptions(acc_dtype=torch.float64), RuntimeError),
        (LinearCrossEntropyOptions(acc_dtype=torch.float16), RuntimeError),
    ):
        for function in (F.linear_cross_entropy, ft.linear_cross_entropy):
            with pytest.raises(error):
                function(x, w, target, options=options)


def test_options_where_ours_cannot(calls):
    """PyTorch's own function takes them then: they are not lost."""
    x, w, _, _, target = case(130, torch.float32)
    options = LinearCrossEntropyOptions(batch_chunk_size=4)
    want = F.linear_cross_entropy(x, w, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        theirs = F.linear_cross_entropy(x, w, target, options=options)
        torch.testing.assert_close(ft.linear_cross_entropy(x, w, target, options=options), theirs)
    frozen = ft.linear_cross_entropy(x.requires_grad_(), w, target, options=options)
    torch.testing.assert_close(frozen, want)
    assert "torch_nn" in frozen.grad_fn.name()
    assert not calls


# Who computes it ------------------------------------------------------------------------------------------------------


def test_by_our_loss_from_pytorchs_logits(calls):
    """Where the layer's weight is frozen, and under autocast."""
    x, w, b, weight, target = case(130, torch.float32)
    x.requires_grad_()
    ours, theirs = (m.linear_cross_entropy(x, w, target, linear_bias=b, weight=weight) for m in (ft, F))
    torch.testing.assert_close([ours, *torch.autograd.grad(ours, x)], [theirs, *torch.autograd.grad(theirs, x)])
    assert ours.grad_fn.name() == "EagerBackward"
    w.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = (m.linear_cross_entropy(x, w, target, linear_bias=b) for m in (ft, F))
    assert ours.dtype == theirs.dtype == torch.float32
    torch.testing.assert_close(ours, theirs)
    found, want = (torch.autograd.grad(loss, (x, w)) for loss in (ours, theirs))
    torch.testing.assert_close(found, want, rtol=2e-2, atol=1e-4)
    assert not calls


def test_half_types_that_the_processor_multiplies(calls, monkeypatch):
    """PyTorch's product is faster than ours there."""
    x, w, _, _, target = case(130, torch.bfloat16)
    monkeypatch.setattr(routing, "_MULTIPLIED", [torch.bfloat16])
    ft.linear_cross_entropy(x, w, target)
    assert not calls
    ft.linear_cross_entropy(x.half(), w.half(), target)
    assert calls


def test_by_pytorch(calls):
    x, w, b, _, target = case()
    spread = torch.randn(5, 2, FEATURES, dtype=torch.float64)
    for arguments in (
        (x[0], w, target[0]),
        (x, spread, torch.randint(5, (ROWS, 2))),
        (x.to("meta"), w.to("meta"), target.to("meta")),
    ):
        ours, theirs = (m.linear_cross_entropy(*arguments) for m in (ft, F))
        if ours.is_meta:
            assert theirs.is_meta
        else:
            torch.testing.assert_close(ours, theirs)
    assert not calls
    wrong = [
        ((x, w[:, :-1], target), {}),
        ((x, w, target[:-1]), {}),
        ((x, w, target), {"linear_bias": b[:-1]}),
        ((x, w.float(), target), {}),
        ((x, w, target.to(torch.int32)), {}),
        ((x, w, target), {"reduction": "average"}),
        ((x, w, torch.ones(ROWS, 7, dtype=torch.float64)), {"ignore_index": 3}),
    ]
    for arguments, options in wrong:
        with pytest.raises(Exception) as theirs:  # noqa: PT011
            F.linear_cross_entropy(*arguments, **options)
        with pytest.raises(type(theirs.value)) as ours:
            ft.linear_cross_entropy(*arguments, **options)
        assert str(ours.value) == str(theirs.value)


def test_a_label_that_is_no_class():
    x, w, b, _, target = case()
    target[4] = 7
    with pytest.raises(IndexError, match=r"^target: expected classes 0 to 6 or ignore_index -100, got 7 in row 4$"):
        ft.linear_cross_entropy(x, w, target, linear_bias=b)
    assert ft.linear_cross_entropy(x, w, target, ignore_index=7).isfinite()
