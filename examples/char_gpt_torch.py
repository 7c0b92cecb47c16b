"""A small GPT that learns Shakespeare's sonnets by characters on the CPU, its loss swapped by one line.

``python examples/char_gpt_torch.py`` trains three of them side by side, on the same batches and from the same weights:
with PyTorch's loss, with this library's, and with the head and the loss in one. ``--loss`` chooses some of them.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

import fastsoftmax.torch as ft

TEXT = Path(__file__).with_name("sonnets.txt")


class Block(nn.Module):
    """Attention to what came before, and a layer of its own for each position."""

    def __init__(self, width: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.to_qkv, self.from_heads = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Add what is attended to, then what follows from it."""
        batch, length, width = x.shape
        qkv = self.to_qkv(self.norms[0](x)).view(batch, length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(*qkv, is_causal=True)
        x = x + self.from_heads(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norms[1](x))


class GPT(nn.Module):
    """Tokens (N, T) to the hidden states (N · T, D) that `head` makes logits of."""

    def __init__(self, vocabulary: int, context: int, width: int = 128, n_layers: int = 2, n_heads: int = 4):
        super().__init__()
        self.tokens, self.places = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, n_heads) for _ in range(n_layers)), nn.LayerNorm(width))
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute the hidden states."""
        return self.blocks(self.tokens(tokens) + self.places.weight[: tokens.shape[1]]).flatten(0, 1)


LOSSES: dict[str, Callable[[GPT, Tensor, Tensor], Tensor]] = {
    "torch": lambda model, x, y: F.cross_entropy(model.head(model(x)), y.flatten()),
    "fastsoftmax": lambda model, x, y: ft.cross_entropy(model.head(model(x)), y.flatten()),
    "head": lambda model, x, y: ft.linear_cross_entropy(model(x), model.head.weight, y.flatten()),
}


def main(argv: list[str] | None = None) -> None:
    """Train, and print what the steps of each took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loss", nargs="+", choices=LOSSES, default=list(LOSSES), help="default: all")
    parser.add_argument("--steps", type=int, default=200, help="default: 200")
    parser.add_argument("--batch", type=int, default=64, help="texts of each step (default: 64)")
    parser.add_argument("--context", type=int, default=128, help="characters of each text (default: 128)")
    args = parser.parse_args(argv)

    text = TEXT.read_text(encoding="utf-8")
    characters = sorted(set(text))
    data = torch.tensor([characters.index(c) for c in text])
    models, optimizers = {}, {}
    for name in args.loss:
        torch.manual_seed(0)
        models[name] = GPT(len(characters), args.context)
        optimizers[name] = torch.optim.AdamW(models[name].parameters(), lr=1e-3)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for step in range(1, args.steps + 1):
        starts = torch.randint(len(data) - args.context, (args.batch, 1))
        x, y = (data[starts + torch.arange(args.context) + ahead] for ahead in (0, 1))
        losses = {}
        for name, model in models.items():
            start = time.perf_counter()
            loss = LOSSES[name](model, x, y)
            optimizers[name].zero_grad()
            loss.backward()
            optimizers[name].step()
            seconds[name].append(time.perf_counter() - start)
            losses[name] = loss.item()
        if step == 1 or step % 20 == 0 or step == args.steps:
            print(f"step {step}:", ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items()))
    for name, each in seconds.items():
        print(f"{name}: {1e3 * median(each):.1f} ms per step")


if __name__ == "__main__":
    main()
