"""Goldens of the guided searches (quant/rivals/hessian_ranges.h) for tests/quant/test_quant.cc: an implementation of its own, in
torch in float64 with gradients by autograd.

    pip install torch safetensors numpy
    python3 make_guided.py        # writes quant/guided_METHOD_BITS.npy beside this file

Each holds, for the golden model `vit`, one row a site in the order of activation_sites() (scale, zero
point, twin, sum of the levels), then one a row of every weight in node order (scale, zero point, 0, 0).
"""
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
torch.set_default_dtype(torch.float64)
CONFIG = json.loads((HERE / "models/vit.json").read_text())["model_args"]
WEIGHTS = {k: v.double() for k, v in load_file(HERE / "models/vit.safetensors").items()}
IMAGES = torch.from_numpy(np.load(HERE / "models/vit.input.npy")).double()
HEADS, PATCH, DEPTH = CONFIG["num_heads"], CONFIG["patch_size"], CONFIG["depth"]


def same(x):
    return x


class Run:
    """A forward pass in which operands are rounded by name and values kept by name."""

    def __init__(self, rounding):
        self.rounding, self.kept = rounding, {}

    def keep(self, name, x):
        if x.requires_grad:
            x.retain_grad()
        self.kept[name] = x
        return x

    def site(self, name, x):
        self.kept["in " + name] = x.detach()
        return self.rounding.get(name, same)(x)

    def linear(self, unit, x, module):
        w = WEIGHTS[module + ".weight"].flatten(1)
        w = self.rounding.get("weight of " + unit, same)(w)
        return self.keep(unit, F.linear(self.site(unit, x), w, WEIGHTS[module + ".bias"]))

    def logits(self):
        n = IMAGES.shape[0]
        p = IMAGES.unfold(2, PATCH, PATCH).unfold(3, PATCH, PATCH).permute(0, 2, 3, 1, 4, 5)
        x = self.linear("patch_embed", p.reshape(n, -1, 3 * PATCH * PATCH), "patch_embed.proj")
        x = torch.cat([WEIGHTS["cls_token"].expand(n, -1, -1), x], 1) + WEIGHTS["pos_embed"]
        x = self.keep("embedding", x.requires_grad_())
        norm = lambda v, m: F.layer_norm(v, v.shape[-1:], WEIGHTS[m + ".weight"], WEIGHTS[m + ".bias"], 1e-6)
        for i in range(DEPTH):
            b = f"blocks.{i}"
            qkv = self.linear(b + ".attn.qkv", norm(x, b + ".norm1"), b + ".attn.qkv")
            q, k, v = qkv.reshape(n, -1, 3, HEADS, qkv.shape[-1] // 3 // HEADS).permute(2, 0, 3, 1, 4)
            q, k = self.site(b + ".attn.matmul1.q", q), self.site(b + ".attn.matmul1.k", k)
            scores = self.keep(b + ".attn.matmul1", q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5)
            a, v = self.site(b + ".attn.attn", scores.softmax(-1)), self.site(b + ".attn.matmul2.v", v)
            mixed = self.keep(b + ".attn.matmul2", a @ v)
            x = x + self.linear(b + ".attn.proj", mixed.transpose(1, 2).reshape(x.shape), b + ".attn.proj")
            h = F.gelu(self.linear(b + ".mlp.fc1", norm(x, b + ".norm2"), b + ".mlp.fc1"))
            x = self.keep(b, x + self.linear(b + ".mlp.fc2", h, b + ".mlp.fc2"))
        return self.linear("head", norm(x, "norm")[:, :1], "head")


def factor(i):
    return 1.2 * 0.85**i


class Even:
    """Asymmetric codes for a range that contains 0."""

    def __init__(self, low, high, bits):
        self.top = 2**bits - 1
        self.scale = np.float64(np.float32((high - low) / self.top))
        self.zero = float(np.clip(np.rint(-low / self.scale), 0, self.top))
        self.row = (self.scale, self.zero, -1, 0)

    def __call__(self, x):
        return self.scale * (torch.clamp(torch.round(x / self.scale) + self.zero, 0, self.top) - self.zero)


class Softmax:
    """Steps of `coarse`, and for the smaller half of the codes of coarse / 2^m where m > 0."""

    def __init__(self, coarse, m, bits):
        self.coarse, self.m, self.half = coarse, m, 2**(bits - 1)
        self.row = (coarse, 0, m, 0)

    def __call__(self, p):
        if self.m == 0:
            return self.coarse * torch.clamp(torch.round(p / self.coarse), max=2 * self.half - 1)
        fine = self.coarse / 2**self.m
        small = torch.round(p / fine)
        large = self.coarse * torch.clamp(torch.round(p / self.coarse), max=self.half - 1)
        return torch.where(small < self.half, small * fine, torch.clamp(large, min=(self.half - 1) * fine))


class Gelu:
    """Twin codes: half of them steps from low to 0, half 2^m times as long, on a grid of 256."""

    def __init__(self, low, m, bits):
        half = 2**(bits - 1)
        fine = -low / half
        for j in range(m, -64, -1):
            grid = fine * 2.0**(m - j)
            zero = np.rint(-low / grid)
            if zero + (half - 1) * 2.0**j <= 255:
                break
        levels = {zero - np.rint(i * fine / grid) for i in range(1, half + 1)}
        levels |= {zero + i * 2.0**j for i in range(half)}
        self.grid, self.zero, self.levels = np.float64(np.float32(grid)), zero, torch.tensor(sorted(levels))
        self.row = (self.grid, zero, -1, float(self.levels.sum()))

    def __call__(self, x):
        code = torch.clamp(torch.round(x / self.grid) + self.zero, 0, 255)
        middle = torch.ceil((self.levels[1:] + self.levels[:-1]) / 2)
        return self.grid * (self.levels[torch.bucketize(code, middle, right=True)] - self.zero)


def candidates(site, x, bits, blockwise):
    low, high = (float(np.float32(v)) for v in (min(x.min(), 0), max(x.max(), 0)))
    if site.endswith(".attn.attn"):
        if blockwise:
            step = np.float32(high) / np.float32(2**bits - 1)
            return [Softmax(np.float64(step * np.float32(factor(i))), 0, bits) for i in range(24)]
        return [Softmax(2.0**(1 - bits), m, bits) for m in range(1, 17 - bits + 1)]
    if site.endswith("fc2") and not blockwise:
        return [Gelu(low, m, bits) for m in range(20) if high / 40 < -low * 2**m < 2 * high]
    return [Even(low * factor(i), high * factor(i), bits) for i in range(24)]


class Rows:
    """Every row of a weight with its own range."""

    def __init__(self, w, factors, bits):
        self.of = [Even(min(r.min().item(), 0) * factor(f), max(r.max().item(), 0) * factor(f), bits)
                   for r, f in zip(w, factors)]

    def __call__(self, w):
        return torch.stack([even(row) for even, row in zip(self.of, w)])


def products():
    """(unit, its operands' sites, weight or not, name of the value at its output, of its block)."""
    out = [("patch_embed", ["patch_embed"], "embedding", "blocks.0")]
    for i in range(DEPTH):
        b = f"blocks.{i}"
        out += [(b + ".attn.qkv", [b + ".attn.qkv"], b + ".attn.qkv", b),
                (b + ".attn.matmul1", [b + ".attn.matmul1.q", b + ".attn.matmul1.k"], b + ".attn.matmul1", b),
                (b + ".attn.matmul2", [b + ".attn.attn", b + ".attn.matmul2.v"], b + ".attn.matmul2", b)]
        out += [(b + u, [b + u], b + u, b) for u in (".attn.proj", ".mlp.fc1", ".mlp.fc2")]
    return out + [("head", ["head"], "head", "head")]


def search(bits, blockwise):
    exact = Run({})
    logits = exact.logits()
    logits[:, 0].max(-1).values.sum().backward()
    sites, weights = [], []
    for unit, operands, own, block in products():
        at = block if blockwise else own
        squares = exact.kept[at].grad**2
        if blockwise:
            squares = squares * (squares >= squares.flatten().sort().values[squares.numel() // 2])
        rounding = {}

        def errors():
            run = Run(rounding)
            run.logits()
            e = squares * (run.kept[at] - exact.kept[at])**2
            return e.detach().flatten(0, -2).sum(0).numpy()

        for _ in range(2):
            for site in operands:
                width = 8 if site == "patch_embed" else bits
                tried = []
                for c in candidates(site, exact.kept["in " + site], width, blockwise):
                    rounding[site] = c
                    tried.append((errors().sum(), c))
                rounding[site] = min(tried, key=lambda t: t[0])[1]
            if unit != own and own != "embedding" or "matmul" in unit:
                continue
            module = "patch_embed.proj" if unit == "patch_embed" else unit
            w = WEIGHTS[module + ".weight"].flatten(1)
            tried = []
            for f in range(12):
                rounding["weight of " + unit] = Rows(w, [f] * len(w), bits)
                e = errors()
                tried.append(np.full(len(w), e.sum()) if blockwise else e)
            rounding["weight of " + unit] = Rows(w, np.argmin(tried, 0), bits)
        sites += [rounding[s].row for s in operands]
        if "weight of " + unit in rounding:
            weights += [r.row[:2] + (0, 0) for r in rounding["weight of " + unit].of]
    return np.array(sites + weights, np.float32)


def main():
    for method, blockwise in (("ptq4vit", False), ("apq-vit", True)):
        for bits in (4, 6):
            np.save(HERE / f"quant/guided_{method}_{bits}.npy", search(bits, blockwise))


if __name__ == "__main__":
    main()
