"""Relevances, gradients and unit scores of the golden models, from method.md section 4.

    pip install torch safetensors numpy
    python3 make_lrp.py        # writes lrp/ beside this file

An implementation of its own: the models written out in torch in float64, every operation on a tape
with its relevance rule in the formulas' plain form; gradients by autograd. For each NAME:
    NAME.scores.npy       [2, units] of the predicted class, NAME.units.txt their names
    NAME.UNIT.npy         [2, ...]: relevance and gradient at the unit's output, first image
    eps/NAME.scores.npy   as NAME.scores.npy, by the rules with epsilon 0.01
"""
import json
import pathlib

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

HERE = pathlib.Path(__file__).parent
MODELS, OUT = HERE / "models", HERE / "lrp"
torch.set_default_dtype(torch.float64)


def safe(a, b):
    den = b.clamp(min=1e-9) + b.clamp(max=1e-9)  # = b + 1e-9
    return a / (den + den.eq(0) * 1e-9) * b.ne(0)


class Tape:
    """Values with their gradients and relevances; rules run in reverse order."""

    def __init__(self, epsilon=0):
        self.rules, self.arrived, self.named, self.epsilon = [], {}, {}, epsilon

    def share(self, r, z, size):
        """What a sum z of terms of this size hands on: r / z, damped where there is an epsilon."""
        return r * z / (z ** 2 + (self.epsilon * size) ** 2) if self.epsilon else safe(r, z)

    def value(self, x):
        x.requires_grad_() if x.is_leaf else x.retain_grad()
        self.arrived[id(x)] = []
        return x

    def send(self, x, relevance):
        self.arrived[id(x)].append(relevance)

    def at(self, x):
        """What arrived at x: the rule for fan-out where it has several readers."""
        parts = self.arrived[id(x)]
        return parts[0] if len(parts) == 1 else x.detach() * sum(safe(r, x.detach()) for r in parts)

    def op(self, y, rule, name=None, real=None):
        y = self.value(y)
        self.rules.append((y, rule))
        if name:
            self.named[name] = (y, real)
        return y

    def linear(self, x, w, b, name=None, real=None):
        def rule(r):
            xp, xn, wp, wn = xd.clamp(min=0), xd.clamp(max=0), w.clamp(min=0), w.clamp(max=0)
            s = safe(r, xp @ wp.T + xn @ wn.T)
            self.send(x, xp * (s @ wp) + xn * (s @ wn))
        xd = x.detach()
        return self.op(F.linear(x, w, b), rule, name, real)

    def product(self, a, b, c, back_a, back_b, y, name, b_is_transposed=False):
        def rule(r):
            depth = a.shape[-1]
            size = a.detach().norm(dim=-1)[..., :, None] * b.detach().norm(dim=-1 if b_is_transposed else -2)[..., None, :]
            s = self.share(r, c.detach(), size / depth ** 0.5)
            self.send(a, a.detach() * back_a(s) / 2)
            self.send(b, b.detach() * back_b(s) / 2)
        return self.op(y, rule, name)

    def same(self, x, y, name=None, back=lambda r: r):
        """Relevance passes unchanged; `back` undoes what y did to the order of the elements."""
        return self.op(y, lambda r: self.send(x, back(r).reshape(x.shape)), name)

    def add(self, a, b, alpha=1.0):
        def rule(r):
            s = self.share(r, (a + b).detach(), a.detach().abs() + b.detach().abs())
            ra, rb = a.detach() * s, b.detach() * s
            if self.epsilon:
                self.send(a, ra)
                self.send(b, rb)
                return
            sa, sb, total = ra.sum(), rb.sum(), r.sum()
            both = sa.abs() + sb.abs()
            self.send(a, ra * safe(safe(sa.abs(), both) * total, sa))
            self.send(b, rb * safe(safe(sb.abs(), both) * total, sb))
        return self.op(alpha * (a + b), rule)

    def rows(self, x, index):
        """Rows of x [n, c] at `index`, 0 where that is negative."""
        keep = (index >= 0).reshape(-1, 1)
        def rule(r):
            out = torch.zeros_like(x)
            out.index_add_(0, index.clamp(min=0), r * keep)
            self.send(x, out)
        return self.op(x[index.clamp(min=0)] * keep, rule)

    def parts(self, x, cuts):
        """Columns of x in equal parts: each takes its own."""
        size, got = x.shape[-1] // cuts, {}
        def rule_of(i):
            def rule(r):
                got[i] = r
                if len(got) == cuts:
                    self.send(x, torch.cat([got[j] for j in range(cuts)], -1))
            return rule
        return [self.op(x[..., i * size:(i + 1) * size], rule_of(i)) for i in range(cuts)]

    def select(self, x, tokens):
        """Single rows of x, each to a reader of its own."""
        got = {}
        def rule_of(t):
            def rule(r):
                got[t] = r
                if len(got) == len(tokens):
                    out = torch.zeros_like(x)
                    for token, relevance in got.items():
                        out[token] = relevance[0]
                    self.send(x, out)
            return rule
        return [self.op(x[t:t + 1], rule_of(t)) for t in tokens]

    def walk(self, logits, target):
        logits[0, target].backward()
        one = torch.zeros_like(logits)
        one[0, target] = 1
        self.send(logits, one)
        for y, rule in reversed(self.rules):
            rule(self.at(y).detach())


def attention(tape, w, name, x, heads, windows, real, bias=None, mask=None):
    """x: [windows * tokens, dim]; `real`: which rows are not padding."""
    dim, tokens = x.shape[1], x.shape[0] // windows
    qkv = tape.linear(x, w[name + ".qkv.weight"], w.get(name + ".qkv.bias"), name + ".qkv", real)
    split = lambda v: v.reshape(windows, tokens, heads, -1).transpose(1, 2)
    swap = lambda r: r.transpose(1, 2)
    q, k, v = (tape.same(p, split(p), back=swap) for p in tape.parts(qkv, 3))
    c = q @ k.transpose(-1, -2)
    scores = tape.product(q, k, c, lambda s: s @ k.detach(), lambda s: s.transpose(-1, -2) @ q.detach(),
                          c * (dim // heads) ** -0.5, name + ".matmul1", True)
    shifted = scores
    if bias is not None:
        shifted = shifted + bias
    if mask is not None:
        shifted = shifted + mask[:, None]
    a = tape.same(scores, shifted.softmax(-1), name + ".attn")
    c2 = a @ v
    mixed = tape.product(a, v, c2, lambda s: s @ v.detach().transpose(-1, -2),
                         lambda s: a.detach().transpose(-1, -2) @ s, c2, None)
    return tape.same(mixed, swap(mixed).reshape(windows * tokens, dim),
                     back=lambda r: swap(r.reshape(windows, tokens, heads, -1)))


def norm(tape, w, name, x, eps):
    return tape.same(x, F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], eps))


def mlp(tape, w, name, x, eps):
    h = norm(tape, w, name + ".norm2", x, eps)
    h = tape.linear(h, w[name + ".mlp.fc1.weight"], w[name + ".mlp.fc1.bias"], name + ".mlp.fc1")
    h = tape.same(h, F.gelu(h))
    h = tape.linear(h, w[name + ".mlp.fc2.weight"], w[name + ".mlp.fc2.bias"], name + ".mlp.fc2")
    return scaled(tape, w, name + ".ls2", h)


def scaled(tape, w, name, h):
    return tape.same(h, h * w[name + ".gamma"]) if name + ".gamma" in w else h


def vit(tape, w, config, image):
    args = config["model_args"]
    patch, heads = args["patch_size"], args["num_heads"]
    x = F.conv2d(image, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=patch)
    x = x.flatten(2).transpose(1, 2)
    prefix = [w[k] for k in ("cls_token", "dist_token") if k in w]
    if w["pos_embed"].shape[1] == x.shape[1]:
        x = torch.cat(prefix + [x + w["pos_embed"]], 1)
    else:
        x = torch.cat(prefix + [x], 1) + w["pos_embed"]
    x = tape.value(x[0].detach())
    for i in range(args["depth"]):
        name = f"blocks.{i}"
        h = norm(tape, w, name + ".norm1", x, 1e-6)
        h = attention(tape, w, name + ".attn", h, heads, 1, None)
        tape.named[name + ".attn.matmul2"] = (h, None)
        h = tape.linear(h, w[name + ".attn.proj.weight"], w[name + ".attn.proj.bias"], name + ".attn.proj")
        x = tape.add(x, scaled(tape, w, name + ".ls1", h))
        x = tape.add(x, mlp(tape, w, name, x, 1e-6))
    x = norm(tape, w, "norm", x, 1e-6)
    heads_of = ["head", "head_dist"][:len(prefix)]
    chosen = tape.select(x, range(len(prefix)))
    logits = [tape.linear(c, w[h + ".weight"], w[h + ".bias"]) for c, h in zip(chosen, heads_of)]
    return logits[0] if len(logits) == 1 else tape.add(logits[0], logits[1], 0.5)


def windows_of(height, width, wh, ww, sh, sw):
    """For each window's tokens the row of the map, -1 for padding, and its region: roll, then pad."""
    index = torch.arange(height * width).reshape(height, width).roll((-sh, -sw), (0, 1))
    index = F.pad(index, (0, -width % ww, 0, -height % wh), value=-1)
    region = torch.zeros_like(index)
    cut = lambda side, w, s: [slice(0, -w), slice(-w, -s), slice(-s, None)] if s else [slice(None)]
    count = 0
    for rows in cut(height, wh, sh):
        for cols in cut(width, ww, sw):
            region[rows, cols] = count
            count += 1
    part = lambda m: m.reshape(m.shape[0] // wh, wh, m.shape[1] // ww, ww).permute(0, 2, 1, 3).reshape(-1, wh * ww)
    region = part(region)
    mask = (region[:, :, None] != region[:, None, :]) * -100.0 if sh or sw else None
    return part(index), mask


def bias_of(table, wh, ww):
    ys, xs = torch.meshgrid(torch.arange(wh), torch.arange(ww), indexing="ij")
    ys, xs = ys.flatten(), xs.flatten()
    offset = (ys[:, None] - ys + wh - 1) * (2 * ww - 1) + (xs[:, None] - xs + ww - 1)
    return table[offset].permute(2, 0, 1)[None]


def swin_block(tape, w, name, x, height, width, window, shift, heads):
    wh, ww = min(window, height), min(window, width)
    sh, sw = (shift if height > window else 0), (shift if width > window else 0)
    index, mask = windows_of(height, width, wh, ww, sh, sw)
    h = norm(tape, w, name + ".norm1", x, 1e-5)
    h = tape.rows(h, index.flatten())
    h = attention(tape, w, name + ".attn", h, heads, index.shape[0], index.flatten() >= 0,
                  bias_of(w[name + ".attn.relative_position_bias_table"], wh, ww), mask)
    back = torch.empty(height * width, dtype=torch.long)
    back[index.flatten()[index.flatten() >= 0]] = torch.arange(index.numel())[index.flatten() >= 0]
    h = tape.rows(h, back)
    tape.named[name + ".attn.matmul2"] = (h, None)
    h = tape.linear(h, w[name + ".attn.proj.weight"], w[name + ".attn.proj.bias"], name + ".attn.proj")
    x = tape.add(x, h)
    return tape.add(x, mlp(tape, w, name, x, 1e-5))


def swin_merge(tape, w, name, x, height, width):
    index = F.pad(torch.arange(height * width).reshape(height, width), (0, width % 2, 0, height % 2), value=-1)
    four = torch.stack([index[0::2, 0::2], index[1::2, 0::2], index[0::2, 1::2], index[1::2, 1::2]], -1)
    h = tape.rows(x, four.flatten())
    h = tape.same(h, h.reshape(four.shape[0] * four.shape[1], -1))
    h = norm(tape, w, name + ".norm", h, 1e-5)
    return tape.linear(h, w[name + ".reduction.weight"], None, name + ".reduction"), four.shape[:2]


def swin(tape, w, config, image):
    args = config["model_args"]
    patch = args.get("patch_size", 4)
    x = F.conv2d(image, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=patch)
    height, width = x.shape[2:]
    x = tape.value(x[0].flatten(1).T.detach())
    x = norm(tape, w, "patch_embed.norm", x, 1e-5)
    for s, (depth, heads) in enumerate(zip(args["depths"], args["num_heads"])):
        if s > 0:
            x, (height, width) = swin_merge(tape, w, f"layers.{s}.downsample", x, height, width)
        for i in range(depth):
            x = swin_block(tape, w, f"layers.{s}.blocks.{i}", x, height, width, args["window_size"],
                           args["window_size"] // 2 if i % 2 else 0, heads)
    x = norm(tape, w, "norm", x, 1e-5)
    xd = x.detach()
    pooled = tape.op(x.mean(0, keepdim=True),
                     lambda r: tape.send(x, xd * tape.share(r, xd.mean(0, keepdim=True), xd.abs().mean(0, keepdim=True))
                                         / xd.shape[0]))
    return tape.linear(pooled, w["head.fc.weight"], w["head.fc.bias"])


def run(name, samples, out, epsilon=0):
    w = {k: v.double() for k, v in load_file(MODELS / f"{name}.safetensors").items()}
    config = json.loads((MODELS / f"{name}.json").read_text())
    images = torch.from_numpy(np.load(MODELS / f"{name}.input.npy")).double()
    want = np.load(MODELS / f"{name}.logits.npy")
    scores = []
    for i, image in enumerate(images):
        tape = Tape(epsilon)
        logits = (swin if "swin" in name else vit)(tape, w, config, image[None])
        assert np.abs(logits.detach().numpy()[0] - want[i]).max() < 1e-4 * np.abs(want).max(), name
        tape.walk(logits, int(logits.argmax()))
        units = [u for u in tape.named if u not in ("head",)]
        row = []
        for u in units:
            y, real = tape.named[u]
            r, g = tape.at(y).detach(), y.grad
            if real is not None:
                r, g = r[real], g[real]
            row.append(float((g * r).clamp(min=0).mean()))
            if i == 0 and u in samples and real is None:
                np.save(out / f"{name}.{u}.npy", torch.stack([r, g]).float().numpy())
        scores.append(row)
    np.save(out / f"{name}.scores.npy", np.array(scores, np.float32))
    if not epsilon:
        (out / f"{name}.units.txt").write_text("\n".join(units) + "\n")


def main():
    (OUT / "eps").mkdir(parents=True, exist_ok=True)
    sample = {"blocks.0.attn.matmul1", "blocks.0.attn.attn", "blocks.0.attn.matmul2", "blocks.1.mlp.fc1",
              "blocks.0.mlp.fc2", "blocks.0.attn.proj", "layers.0.blocks.1.attn.attn",
              "layers.0.blocks.0.attn.matmul1", "layers.0.blocks.0.attn.matmul2",
              "layers.1.downsample.reduction", "layers.0.blocks.1.mlp.fc2"}
    for name in ("vit", "vit_oblong", "deit_distilled", "deit3", "swin", "swin_small_map", "swin_padded"):
        run(name, sample, OUT)
        run(name, {}, OUT / "eps", 0.01)


if __name__ == "__main__":
    main()
