"""PyTorch's functions, and those of `fastsoftmax.torch` in their place."""

from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks import threads
from benchmarks.dialects import Call
from benchmarks.homes import HomeCase
from benchmarks.problems import Case, make

_CONTEXT = 128  # tokens of each text of the small GPT


def _modules() -> tuple[Any, Any, Any]:
    """Import PyTorch, its functions and ours."""
    import torch

    import fastsoftmax.torch as ours

    torch.set_num_threads(threads.count())
    return torch, torch.nn.functional, ours


def _gradients(torch: Any, loss_of: Callable[..., Any], leaves: list[Any]) -> Any:
    loss = loss_of(*leaves)
    return loss.detach(), *torch.autograd.grad(loss, leaves)


def _loss(shape: tuple[int, ...]) -> tuple[Call, Call]:
    torch, theirs, ours = _modules()
    logits, labels = map(torch.from_numpy, make(Case("homes", "cross_entropy_with_grad", shape)))
    logits.requires_grad_()
    both = (partial(module.cross_entropy, target=labels) for module in (ours, theirs))
    first, second = (Call(partial(_gradients, torch, loss, [logits])) for loss in both)
    return first, second


def _loss_in_place(shape: tuple[int, ...]) -> tuple[Call, Call]:
    """Compare losses of logits that come out of a layer, made anew before each call."""
    torch, theirs, ours = _modules()
    values, labels = map(torch.from_numpy, make(Case("homes", "cross_entropy_with_grad", shape)))
    values.requires_grad_()

    def call(loss: Callable[..., Any]) -> Call:
        logits: list[Any] = []
        run = lambda: _gradients(torch, partial(loss, target=labels), logits)  # noqa: E731
        return Call(run, before=lambda: logits.append(values * 1), after=logits.clear)

    return call(partial(ours.cross_entropy, inplace_backward=True)), call(theirs.cross_entropy)


def _head(shape: tuple[int, ...]) -> tuple[Call, Call]:
    torch, theirs, ours = _modules()
    x, w, b, labels = make(Case("homes", "linear_cross_entropy_with_grad", shape))
    leaves = [torch.from_numpy(each).requires_grad_() for each in (x, w.T.copy(), b)]
    labels = torch.from_numpy(labels)

    def call(module: Any) -> Call:
        loss = lambda x, w, b: module.linear_cross_entropy(x, w, labels, linear_bias=b)  # noqa: E731
        return Call(partial(_gradients, torch, loss, leaves))

    return call(ours), call(theirs)


def _gpt_step(loss: str, shape: tuple[int, ...]) -> tuple[Call, Call]:
    """Compare a step of training, its optimiser's included; both begin with the same weights."""
    torch, *_ = _modules()
    from examples.char_gpt_torch import GPT, LOSSES

    rows, width, vocabulary = shape
    context = min(_CONTEXT, rows)
    tokens = torch.randint(vocabulary, (rows // context, context + 1), generator=torch.Generator().manual_seed(0))

    def call(name: str) -> Call:
        torch.manual_seed(0)
        model = GPT(vocabulary, context, 4 * (width // 4), n_layers=4)
        optimizer = torch.optim.AdamW(model.parameters())

        def run() -> Any:
            loss = LOSSES[name](model, tokens[:, :-1], tokens[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return Call(run)

    return call(loss), call("torch")


def _case(name: str, shape: tuple[int, ...], peer: str, setup: Callable[..., Any], *bars: float) -> HomeCase:
    return HomeCase("PyTorch", name, shape, ("torch", "ml_dtypes"), peer, setup, *bars)


CASES = [
    _case("loss", (1_024, 32_000), "F.cross_entropy", _loss, 5),
    _case("loss in place", (1_024, 32_000), "F.cross_entropy", _loss_in_place, 15),
    _case("head", (2_048, 768, 32_000), "F.linear_cross_entropy", _head, 1.5, 1 / 3),
    _case(
        "step of a small GPT, loss swapped", (1_024, 256, 32_000), "F.cross_entropy", partial(_gpt_step, "fastsoftmax")
    ),
    _case("step of a small GPT, head", (1_024, 256, 32_000), "F.cross_entropy", partial(_gpt_step, "head"), 1.6),
]
