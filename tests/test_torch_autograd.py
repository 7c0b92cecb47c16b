"""Gradients of gradients, `torch.func`, checkpoints: whatever PyTorch differentiates, it differentiates ours."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402, N812
from torch.autograd import gradcheck, gradgradcheck  # noqa: E402
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap  # noqa: E402

import fastsoftmax.torch as ft  # noqa: E402
from fastsoftmax.torch import library  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("ours_in_torch"),
    # PyTorch's own forward mode calls it.
    pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning"),
]

CLASSES = 7
OURS = "EagerBackward"
OPTIONS = [
    {"reduction": reduction, "label_smoothing": smoothing}
    for reduction in ("mean", "sum", "none")
    for smoothing in (0.0, 0.1)
]


def case(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, generator=generator, dtype=torch.float64)
    target = torch.randint(shape[1], (shape[0], *shape[2:]), generator=generator)
    target[0] = -100
    return logits, target, torch.rand(shape[1], generator=generator, dtype=torch.float64)


def losses(function, target, weight=None, **options):
    return lambda logits: function(logits, target, weight, **options)


def both(target, weight=None, **options):
    return [losses(function, target, weight, **options) for function in (ft.cross_entropy, F.cross_entropy)]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(5, CLASSES), (2, CLASSES, 3)], ids=str)
def test_loss(shape, weighted, options):
    logits, target, weight = case(*shape)
    function = losses(ft.cross_entropy, target, weight if weighted else None, **options)
    logits.requires_grad_()
    assert function(logits).grad_fn.name() == OURS
    assert gradcheck(function, logits)
    assert gradgradcheck(function, logits, fast_mode=True)


def test_loss_of_probabilities():
    logits, _, weight = case(5, CLASSES)
    function = losses(ft.cross_entropy, logits.softmax(1), weight, label_smoothing=0.1)
    logits.requires_grad_()
    assert gradcheck(function, logits)
    assert gradgradcheck(function, logits, fast_mode=True)


@pytest.mark.parametrize(
    ("name", "dim"),
    [(name, dim) for name in ("softmax", "log_softmax", "logsumexp") for dim in (0, 1, -1)] + [("logsumexp", (0, 2))],
)
def test_softmax_and_its_kin(name, dim):
    logits = case(3, CLASSES, 4)[0].requires_grad_()

    def of(logits):
        return getattr(ft, name)(logits, dim, **({"keepdim": True} if name == "logsumexp" else {}))

    assert of(logits).grad_fn.name() == OURS
    assert gradcheck(of, logits)
    assert gradgradcheck(of, logits, fast_mode=True)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("with_bias", [False, True])
def test_head(with_bias, options):
    generator = torch.Generator().manual_seed(0)
    x, w, b = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((6, 4), (CLASSES, 4), (CLASSES,))
    )
    target = torch.randint(CLASSES, (6,), generator=generator)

    def function(x, w, b=None):
        return ft.linear_cross_entropy(x, w, target, linear_bias=b, **options)

    layer = (x, w, b) if with_bias else (x, w)
    assert function(*layer).grad_fn.name() == OURS
    assert gradcheck(function, layer, fast_mode=True)
    assert gradgradcheck(function, layer, fast_mode=True)
    assert gradcheck(function, tuple(each.detach() if each is x else each for each in layer), fast_mode=True)


def third(function, logits):
    """A gradient of a gradient of a gradient."""
    logits = logits.clone().requires_grad_()
    along = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).reshape(logits.shape)
    (first,) = torch.autograd.grad(function(logits).sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad((first * along).sum(), logits, create_graph=True)
    return torch.autograd.grad((second * along * along).sum(), logits)[0]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_third_derivative_of_a_loss(options):
    logits, target, weight = case(5, CLASSES)
    ours, theirs = both(target, weight, **options)
    torch.testing.assert_close(third(ours, logits), third(theirs, logits))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_third_derivative_of_softmax_and_its_kin(name):
    logits, *_ = case(5, CLASSES)
    ours, theirs = (third(lambda z, m=m: getattr(m, name)(z, 1) ** 2, logits) for m in (ft, torch))
    torch.testing.assert_close(ours, theirs)


def test_third_derivative_of_a_head():
    x, target, _ = case(5, CLASSES)
    w = torch.randn(9, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    ours, theirs = (third(lambda x, m=m: m.linear_cross_entropy(x, w, target), x) for m in (ft, F))
    torch.testing.assert_close(ours, theirs)


# torch.func -----------------------------------------------------------------------------------------------------------

TRANSFORMS = {
    "grad": grad,
    "jacrev": jacrev,
    "jacfwd": jacfwd,
    "hessian": hessian,
    "jacrev of jacrev": lambda f: jacrev(jacrev(f)),
    "grad of grad": lambda f: grad(lambda z: grad(f)(z).square().sum()),
    "grad of vjp": lambda f: grad(lambda z: vjp(f, z)[1](torch.ones((), dtype=z.dtype))[0].square().sum()),
    "jvp": lambda f: lambda z: jvp(f, (z,), (z + 1,)),
}


@pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
@pytest.mark.parametrize("weighted", [False, True])
def test_transforms(weighted, transform):
    logits, target, weight = case(4, CLASSES)
    ours, theirs = both(target, weight if weighted else None, label_smoothing=0.1)
    torch.testing.assert_close(transform(ours)(logits), transform(theirs)(logits))


@pytest.mark.parametrize("in_dim", [0, 1, 2])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_vmap(reduction, in_dim):
    logits, target, _ = case(4, CLASSES)
    batch = torch.stack([logits, logits + logits.square(), -logits], in_dim)
    for ours, theirs in (
        both(target, reduction=reduction),
        [jacrev(f) for f in both(target, reduction=reduction)],
        [jacrev(f) for f in both(logits.softmax(1))],
    ):
        torch.testing.assert_close(vmap(ours, in_dim)(batch), vmap(theirs, in_dim)(batch))


def test_gradients_of_samples():
    """What differs from sample to sample may be labels, too, and parameters are shared."""
    logits, target, weight = case(12, CLASSES)
    layer = torch.nn.Linear(CLASSES, CLASSES, dtype=torch.float64)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}

    def of_samples(function):
        def loss(parameters, x, y):
            return function(functional_call(layer, parameters, (x,)), y, weight)

        return vmap(grad(loss), (None, 0, 0))(parameters, logits.reshape(3, 4, CLASSES), target.reshape(3, 4))

    torch.testing.assert_close(of_samples(ft.cross_entropy), of_samples(F.cross_entropy))


def test_targets_and_weights_that_are_differentiated():
    """PyTorch does that, through whatever it is wrapped in."""
    logits, _, weight = case(5, CLASSES)
    probs = logits.softmax(1)
    for transform in (lambda f: grad(f), lambda f: grad(lambda *args: vmap(lambda _: f(*args))(torch.ones(2)).sum())):
        for which, arguments in ((1, (logits, probs)), (2, (logits, probs, weight))):
            ours, theirs = (
                transform(lambda tensor, f=f, which=which, rest=arguments: f(*rest[:which], tensor))(arguments[which])
                for f in (ft.cross_entropy, F.cross_entropy)
            )
            torch.testing.assert_close(ours, theirs)
            assert ours.any()


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "logsumexp"])
def test_transforms_of_softmax_and_its_kin(name):
    logits, *_ = case(4, CLASSES)
    ours, theirs = ((lambda z, m=m: getattr(m, name)(z, 1)) for m in (ft, torch))
    for transform in (jacrev, jacfwd, lambda f: vmap(jacrev(lambda row: f(row[None]))), lambda f: jacrev(jacrev(f))):
        torch.testing.assert_close(transform(ours)(logits), transform(theirs)(logits))


def test_transforms_of_a_head():
    x, target, _ = case(5, CLASSES)
    w = torch.randn(9, CLASSES, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    ours, theirs = ((lambda x, w, m=m: m.linear_cross_entropy(x, w, target)) for m in (ft, F))
    for transform, given in (
        (lambda f: jacrev(f, (0, 1)), x),
        (hessian, x),
        (lambda f: vmap(grad(f, 1), (0, None)), torch.stack([x, -x])),
    ):
        torch.testing.assert_close(transform(ours)(given, w), transform(theirs)(given, w))


def test_forward_mode():
    logits, target, _ = case(5, CLASSES)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(logits, logits + 1)
        for ours, theirs in (both(target), (lambda z: ft.softmax(z, 1), lambda z: torch.softmax(z, 1))):
            ours, theirs = (torch.autograd.forward_ad.unpack_dual(f(dual)) for f in (ours, theirs))
            torch.testing.assert_close(ours.tangent, theirs.tangent)


# Ways to go back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_several_upstream_gradients_at_once(reduction):
    logits, target, _ = case(5, CLASSES)
    logits.requires_grad_()
    found = []
    for function in both(target, reduction=reduction):
        loss = function(logits)
        upstream = torch.arange(1.0, 1 + 3 * loss.numel(), dtype=loss.dtype).reshape(3, *loss.shape)
        found += torch.autograd.grad(loss, logits, upstream, is_grads_batched=True)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpoint(use_reentrant):
    logits, target, _ = case(5, CLASSES)
    logits.requires_grad_()
    found = []
    for function in both(target):
        loss = torch.utils.checkpoint.checkpoint(lambda z, f=function: f(2 * z), logits, use_reentrant=use_reentrant)
        found += torch.autograd.grad(loss, logits) if not use_reentrant else [_of_backward(3 * loss, logits)]
    torch.testing.assert_close(*found)


def _of_backward(loss, leaf):
    leaf.grad = None
    loss.backward()
    return leaf.grad


def test_hooks_of_saved_tensors():
    logits, target, _ = case(5, CLASSES)
    logits.requires_grad_()
    found = []
    for function in both(target):
        with torch.autograd.graph.save_on_cpu():
            loss = function(logits)
        found += torch.autograd.grad(3 * loss, logits)
    torch.testing.assert_close(*found)


def test_a_gradient_that_two_need():
    """The logits' gradient is added to that of another use of them."""
    logits, target, _ = case(5, CLASSES)
    logits.requires_grad_()
    found = []
    for function in both(target):
        hidden = 2 * logits
        found += torch.autograd.grad(function(hidden) + hidden.square().sum() + function(hidden), logits)
    torch.testing.assert_close(*found)


def test_without_gradients():
    logits, target, _ = case(5, CLASSES)
    want = F.cross_entropy(logits, target)
    with torch.no_grad():
        assert not ft.cross_entropy(logits.requires_grad_(), target).requires_grad
    with torch.inference_mode():
        torch.testing.assert_close(ft.cross_entropy(logits, target), want)
        torch.testing.assert_close(ft.softmax(logits, 1), torch.softmax(logits, 1))
    assert not ft.cross_entropy(logits.detach(), target).requires_grad


@pytest.mark.parametrize("factor", [1, 3])
@pytest.mark.parametrize("keep", [False, True])
def test_gradients_are_free_of_their_graph(keep, factor):
    """Unless they are to be differentiated: else `.grad` would hold on to all that it comes from."""
    logits, target, _ = case(5, CLASSES)
    w = torch.randn(9, CLASSES, dtype=torch.float64, requires_grad=True)
    logits.requires_grad_()
    for loss in (
        ft.cross_entropy(logits, target),
        ft.cross_entropy(logits, target, reduction="none").sum(),
        ft.cross_entropy(logits * 1, target, inplace_backward=True),
        ft.linear_cross_entropy(logits, w, target),
        ft.softmax(logits, 1)[0, 0],
        ft.log_softmax(logits, 1)[0, 0],
        ft.logsumexp(logits, 1)[0],
    ):
        (gradient,) = torch.autograd.grad(factor * loss, logits, retain_graph=keep)
        assert not gradient.requires_grad
        assert gradient.grad_fn is None


def test_nothing_is_multiplied_by_one(monkeypatch):
    """Where the loss is what is differentiated, in eager mode; by another number it is in place, if nobody looks."""
    logits, target, _ = case(5, CLASSES)
    seen = []
    multiply = torch.Tensor.mul_
    monkeypatch.setattr(torch.Tensor, "mul_", lambda *args: seen.append("in place") or multiply(*args))
    monkeypatch.setattr(
        torch.Tensor, "__mul__", lambda *args: seen.append("anew") or multiply(args[0].clone(), args[1])
    )
    for factor, keep, expected in ((1, False, []), (2, False, ["in place"]), (1, True, ["anew"])):
        leaf = logits.clone().requires_grad_()
        loss = ft.cross_entropy(leaf, target)
        seen.clear()
        loss.backward(torch.tensor(float(factor), dtype=loss.dtype), retain_graph=keep)
        assert seen == expected
    assert library.is_plain_eager()
