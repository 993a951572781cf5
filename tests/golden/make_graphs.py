"""Values, gradients and relevances of small graphs that tests build by hand, one of each kind of node.

    pip install torch numpy
    python3 make_graphs.py        # writes graphs/ beside this file

An implementation of its own in torch in float64: convolutions, pools and interpolation are torch's,
gradients are by autograd, and every operation carries its relevance rule (method.md section 4) in the
formula's plain form. tests/models/graph/hand_made.h builds the same graphs. For each CASE:
    CASE.input.npy       [2, H, W, C], an image [2, C, H, W]
    CASE.params.npy      all parameters one behind the other, in the order in which the graph lists them
    CASE.outputN.npy     [2, rows, cols] of output N
    CASE.gradient.npy    of the sum over the outputs of <direction, output>, at the first input (of an
                         image: its pixels once scaled)
    CASE.relevance.npy   there, when it starts as |direction| at every output
The direction is 1, -2, 3, -1, 2, -3, .. / 3 over the elements of an output.
"""
import pathlib

import numpy as np
import torch
import torch.nn.functional as F

from graph_rules import Net, Value

OUT = pathlib.Path(__file__).parent / "graphs"
# The largest |R| times the ratio of its divisor's terms to the divisor, beside the largest relevance of the
# input, of the draws that are kept. Float rounds the terms by 2^-24 of their size each, so that the
# relevance errs by up to some 100 2^-24 = 6e-6 a sum of its largest value.
WORST = 100


# --- the cases ---

def rotary_table(net, rows, dim, heads=1):
    angles = lambda: torch.rand(rows, heads, dim // 2, generator=net.generator) * 6
    return Value(net.param(lambda: (lambda a: torch.cat([a.cos(), a.sin()], 2).reshape(rows, -1))(angles())))


def windows_of(height, width, side, shift, pad_first=False):
    """Index and region of Swin's shifted windows on a padded map, by rolling a map of row numbers."""
    tall, wide = -(-height // side) * side, -(-width // side) * side
    rows = torch.full((tall, wide), height * width)
    roll = lambda m: m.roll((-shift, -shift), (0, 1))
    numbers = torch.arange(height * width).reshape(height, width)
    rows[:height, :width] = numbers if pad_first else roll(numbers)
    rows = roll(rows) if pad_first else rows
    region = torch.zeros(tall, wide)
    cuts = lambda n: [slice(0, n - side), slice(n - side, n - shift), slice(n - shift, n)] if shift else [slice(0, n)]
    for i, a in enumerate(cuts(tall)):
        for j, b in enumerate(cuts(wide)):
            region[a, b] = 3 * i + j
    split = lambda m: m.reshape(tall // side, side, wide // side, side).transpose(1, 2).reshape(-1, side * side)
    return split(rows), split(region)


def conv(net):
    net.output(net.convolution(net.input, 6, 3, 1, 1))

def conv_stride(net):
    net.output(net.convolution(net.input, 6, 3, 2, 1, "yxc"))

def conv_merging(net):  # 2 x 2 neighbourhoods behind an odd map
    net.output(net.convolution(net.input, 6, 2, 2, 0, "xyc", behind=(1, 1)))

def conv_image(net):
    scaled = net.normal(3, scale=0.2, mean=1), net.normal(3, scale=0.5)
    a = net.convolution(None, 5, 3, 2, 1, scaled=scaled)
    net.output(net.linear(a, 4))

def transposed2(net):
    net.output(net.transposed(net.input, 3, 2, 2, 0))

def transposed4(net):
    net.output(net.linear(net.transposed(net.input, 3, 4, 2, 1), 4))

def max_pool(net):
    net.output(net.linear(net.pool(net.input, True, 3, 2, 1), 4))

def mean_pool(net):
    net.output(net.linear(net.pool(net.input, False, 2, 2), 4))

def mean_pool_padded(net):
    net.output(net.pool(net.linear(net.input, 4), False, 3, 2, 1))

def pool_rows(net):
    x = net.linear(net.input, 4)
    net.output(net.linear(net.concat([net.pool(x, False), net.pool(x, True)], True), 3))

def resize(mode, size):
    def case(net):
        net.output(net.linear(net.resize(net.input, mode, size), 4))
    return case

def resize_like(net):
    small = net.linear(net.pool(net.input, True, 2, 2), 5)
    net.output(net.linear(net.add(net.linear(net.input, 5), net.resize(small, "nearest", net.input.map)), 4))

def concat_rows(net):
    a, b = net.linear(net.input, 6), net.linear(net.slice(net.input, 2, 7), 6)
    both = net.concat([net.constant(2, 6), a, b])
    net.output(net.linear(both, 4))

def concat_columns(net):
    a, b = net.linear(net.input, 6), net.linear(net.input, 3)
    net.output(net.linear(net.concat([a, net.input, b], True), 4))

def slice_rows(net):
    net.output(net.linear(net.slice(net.linear(net.input, 6), 1, 4), 4))

def slice_columns(net):
    x = net.linear(net.input, 9)
    net.output(net.linear(net.slice(x, 2, 7, True), 4))

def swiglu(net):
    gate, up = net.linear(net.input, 10), net.linear(net.input, 10)
    net.output(net.linear(net.mul(net.act(gate, F.silu), up), 6))

def layer_scale(net):
    y = net.linear(net.input, net.input.t.shape[1])
    net.output(net.linear(net.add(net.input, net.scale(y, net.constant(1, y.t.shape[1]))), 4))

def gated(net):  # a factor for each channel, of the mean over all rows
    x = net.linear(net.input, 6)
    net.output(net.linear(net.mul(x, net.act(net.linear(net.pool(x, False), 6), torch.sigmoid)), 4))

def constant_first(net):
    rows, cols = net.input.t.shape[0], 6
    a = net.constant(rows, cols)
    x = net.shift(net.linear(net.input, cols), a)
    b = net.constant(rows, cols, mean=1, scale=0.2)
    net.output(net.linear(net.scale(x, b), 4))

def act(f):
    def case(net):
        net.output(net.linear(net.act(net.linear(net.input, 8), f), 4))
    return case

def norm(kind, eps, group=None):
    def case(net):
        net.output(net.linear(net.norm(net.input, kind, eps, group), 4))
    return case

def norm_columns(net):
    x = net.slice(net.linear(net.input, 12), 2, 10, True)
    net.output(net.linear(net.norm(x, "l2", 1e-12, 4), 4))

def rope(interleaved):
    def case(net):
        table = rotary_table(net, net.input.t.shape[0] - 1, 6)
        qkv = net.rope(net.linear(net.input, 36), table, 6, interleaved, 0, 24)
        q, k, v = (net.slice(qkv, i, i + 12, True) for i in (0, 12, 24))
        net.output(net.linear(net.attention(q, k, v, 2), 5))
    return case

def rope_by_head(net):
    table = rotary_table(net, net.input.t.shape[0] - 1, 6, 2)
    q, k, v = (net.linear(net.input, 12) for _ in range(3))
    net.output(net.linear(net.attention(net.rope(q, table, 6, True, 0, 12), k, v, 2), 5))

def attention_grid(net):  # BEiT's table for a token and a map of 2 x 3
    q, k, v = (net.linear(net.input, 12) for _ in range(3))
    entries = net.normal(18, 2, scale=0.5)
    at = torch.cartesian_prod(torch.arange(2), torch.arange(3))
    apart = at[:, None] - at[None]
    index = torch.zeros(7, 7, dtype=torch.long)
    index[1:, 1:] = (apart[..., 0] + 1) * 5 + apart[..., 1] + 2
    index[0, :], index[:, 0], index[0, 0] = 15, 16, 17  # token to map, map to token, token to itself
    net.output(net.linear(net.attention(q, k, v, 2, bias=entries[index].permute(2, 0, 1)), 5))

def attention_cross(net):
    few = net.slice(net.input, 1, 4)
    q, k, v = net.linear(few, 12), net.linear(net.input, 12), net.linear(net.input, 12)
    net.output(net.linear(net.attention(q, k, v, 2), 5))

def attention_bias(net):
    t = net.input.t.shape[0]
    q, k, v = (net.linear(net.input, 12) for _ in range(3))
    net.output(net.linear(net.attention(q, k, v, 2, bias=net.constant(2, t, t).t), 5))

def attention_act(net):  # what is mixed is read by something else than a product
    q, k, v = (net.linear(net.input, 12) for _ in range(3))
    net.output(net.linear(net.act(net.attention(q, k, v, 2), F.gelu), 5))

def attention_causal(net):
    q, k, v = (net.linear(net.input, 12) for _ in range(3))
    net.output(net.linear(net.attention(q, k, v, 2, causal=True), 5))

def attention_windows(shift):
    def case(net):
        qkv = net.linear(net.input, 36)
        bias = net.params[net.next - 1]
        index, region = windows_of(*net.input.map, 3, shift)
        entries = net.normal(25, 2, scale=0.5)
        at = torch.cartesian_prod(torch.arange(3), torch.arange(3))
        apart = at[:, None] - at[None]
        table = entries[(apart[..., 0] + 2) * 5 + apart[..., 1] + 2].permute(2, 0, 1)
        q, k, v = (net.slice(qkv, i, i + 12, True) for i in (0, 12, 24))
        y = net.attention(q, k, v, 2, index=index, table=table, region=region if shift else None,
                          pads=[bias[i:i + 12] for i in (0, 12, 24)])
        net.output(net.linear(y, 5))
    return case

def attention_cosines(net):  # of a map that is padded before it is shifted
    qkv = net.linear(net.input, 36)
    bias = net.params[net.next - 1]
    qk = net.norm(net.slice(qkv, 0, 24, True), "l2", 1e-12, 6)
    pad = F.normalize(bias[:24].reshape(4, 6), dim=-1).reshape(24) * net.params[net.next - 1]
    index, region = windows_of(*net.input.map, 3, 1, pad_first=True)
    q, k, v = net.slice(qk, 0, 12, True), net.slice(qk, 12, 24, True), net.slice(qkv, 24, 36, True)
    y = net.attention(q, k, v, 2, index=index, region=region, pads=[pad[:12], pad[12:], bias[24:]])
    net.output(net.linear(y, 5))

def add_linear_first(net):
    net.output(net.linear(net.add(net.linear(net.input, net.input.t.shape[1]), net.input), 4))

def add_earlier_first(net):
    net.output(net.linear(net.add(net.input, net.linear(net.input, net.input.t.shape[1])), 4))

def add_linears(net):
    a, b = net.linear(net.input, 6), net.linear(net.input, 6)
    net.output(net.linear(net.add(a, b, 0.5), 4))
    net.output(net.add(b, a))

def two_readers(net):
    x = net.act(net.linear(net.input, 8), F.gelu)
    net.output(net.add(net.linear(x, 5), net.linear(x, 5)))

def outputs3(net):
    x = net.linear(net.input, 6)
    net.output(x)
    y = net.act(net.linear(x, 8), F.gelu)
    net.output(net.linear(y, 3))
    net.output(net.pool(x, False))

def sizes(net):
    x = net.act(net.convolution(net.input, 6, 3, 1, 1), F.relu)
    y = net.convolution(x, 4, 3, 2, 1, "yxc")
    net.output(y)
    net.output(net.linear(net.pool(y, False), 3))


gelu_tanh = lambda x: F.gelu(x, approximate="tanh")
quick_gelu = lambda x: x * torch.sigmoid(1.702 * x)
CASES = {
    "conv": (conv, (8, 10, 5)), "conv_stride": (conv_stride, (9, 7, 4)), "conv_merging": (conv_merging, (7, 5, 4)),
    "conv_image": (conv_image, "image"), "transposed2": (transposed2, (3, 4, 5)),
    "transposed4": (transposed4, (3, 4, 5)), "max_pool": (max_pool, (7, 6, 4)), "mean_pool": (mean_pool, (6, 8, 4)),
    "mean_pool_padded": (mean_pool_padded, (7, 6, 5)), "pool_rows": (pool_rows, (3, 4, 5)),
    "nearest_up": (resize("nearest", (7, 9)), (5, 4, 3)), "nearest_down": (resize("nearest", (3, 4)), (7, 9, 3)),
    "bilinear_up": (resize("bilinear", (7, 9)), (5, 4, 3)), "bilinear_down": (resize("bilinear", (3, 4)), (7, 9, 3)),
    "resize_like": (resize_like, (6, 5, 4)), "concat_rows": (concat_rows, (3, 3, 5)),
    "concat_columns": (concat_columns, (2, 4, 5)), "slice_rows": (slice_rows, (1, 6, 5)),
    "slice_columns": (slice_columns, (1, 6, 5)), "swiglu": (swiglu, (1, 6, 5)), "layer_scale": (layer_scale, (1, 6, 5)),
    "gated": (gated, (2, 4, 5)), "constant_first": (constant_first, (1, 6, 5)),
    "gelu": (act(F.gelu), (1, 6, 5)), "gelu_tanh": (act(gelu_tanh), (1, 6, 5)),
    "quick_gelu": (act(quick_gelu), (1, 6, 5)), "silu": (act(F.silu), (1, 6, 5)), "relu": (act(F.relu), (1, 6, 5)),
    "sigmoid": (act(torch.sigmoid), (1, 6, 5)),
    "relu_limit": (act(lambda x: F.hardtanh(x, 0, 0.75)), (1, 6, 5)),
    "norm_layer": (norm("layer", 1e-6), (1, 6, 8)), "norm_rms": (norm("rms", 1e-6), (1, 6, 8)),
    "norm_l2": (norm("l2", 1e-12, 4), (1, 6, 8)),
    "rope_half": (rope(False), (1, 7, 5)), "rope_neighbours": (rope(True), (1, 7, 5)),
    "attention_cross": (attention_cross, (1, 7, 5)), "attention_bias": (attention_bias, (1, 7, 5)),
    "attention_causal": (attention_causal, (1, 7, 5)), "attention_windows": (attention_windows(0), (4, 5, 5)),
    "attention_shifted": (attention_windows(1), (4, 5, 5)),
    "add_linear_first": (add_linear_first, (1, 6, 5)), "add_earlier_first": (add_earlier_first, (1, 6, 5)),
    "add_linears": (add_linears, (1, 6, 5)), "two_readers": (two_readers, (1, 6, 5)), "outputs3": (outputs3, (2, 4, 5)),
    "sizes": (sizes, (8, 10, 5)), "sizes_other": (sizes, (12, 7, 5)), "attention_cosines": (attention_cosines, (4, 5, 5)),
    "norm_columns": (norm_columns, (1, 6, 5)), "tanh": (act(torch.tanh), (1, 6, 5)),
    "norm_layer_group": (norm("layer", 1e-6, 4), (1, 6, 8)), "norm_rms_group": (norm("rms", 1e-6, 4), (1, 6, 8)),
    "rope_by_head": (rope_by_head, (1, 7, 5)), "attention_grid": (attention_grid, (1, 7, 5)),
    "attention_act": (attention_act, (1, 7, 5)),
}


def draw(name, shape, generator):
    if shape == "image":
        return torch.randn(2, 3, 9, 11, generator=generator)
    x = torch.randn(2, *shape, generator=generator)
    return (x * 2).round() / 2 if name == "max_pool" else x  # of many maxima the first


def run(name, case, shape, seed, given=None):
    generator = torch.Generator().manual_seed(seed)
    images = draw(name, shape, generator).to(torch.float32).to(torch.float64)
    params, arrays = list(given or []), {}
    nets = [Net(image, shape == "image", generator, params) for image in images]
    for net in nets:
        case(net)
    for i in range(len(nets[0].outputs)):
        arrays[f"output{i}"] = torch.stack([net.outputs[i].x for net in nets])
    arrays["gradient"], arrays["relevance"] = nets[0].walk()
    arrays["input"] = images
    arrays["params"] = torch.cat([p.reshape(-1) for p in params])
    return arrays, params, nets[0].worst / float(arrays["relevance"].abs().max())


def rounding(case, shape, arrays, params):
    """By how much the same rules in float32 move the gradient and the relevance, beside their largest value."""
    torch.set_default_dtype(torch.float32)
    net = Net(arrays["input"][0].float(), shape == "image", None, [p.float() for p in params])
    case(net)
    moved = max(float((got - arrays[what]).abs().max() / arrays[what].abs().max())
                for what, got in zip(("gradient", "relevance"), net.walk()))
    torch.set_default_dtype(torch.float64)
    return moved


def deep():
    """K = 12,544; its numbers come from formulas, and of the gradient and the relevance every 49th is kept."""
    k, n, items = 12544, 3, 2
    i = np.arange(items * k)
    x = (((i * 7919) % 2003 - 1001) / 1024).reshape(items, k)
    j = np.arange(n * k)
    w = (((j * 104729) % 3001 - 1500) / 65536).reshape(n, k)
    y = x @ w.T
    d = np.array([[1.0, -2, 3]]) / 3
    x = x[:1]
    xp, xn, wp, wn = np.maximum(x, 0), np.minimum(x, 0), np.maximum(w, 0), np.minimum(w, 0)
    s = np.abs(d) / (xp @ wp.T + xn @ wn.T + 1e-9)
    return {"output0": y[:, None], "gradient": (d @ w).reshape(-1)[::49],
            "relevance": (xp * (s @ wp) + xn * (s @ wn)).reshape(-1)[::49]}


def main():
    OUT.mkdir(exist_ok=True)
    for old in OUT.glob("*.npy"):
        old.unlink()
    kept = {}
    for number, (name, (case, shape)) in enumerate(CASES.items()):
        for seed in range(1000 * number, 1000 * number + 400):
            arrays, params, worst = run(name, case, shape, seed, kept.get(name.removesuffix("_other")))
            if worst < WORST and rounding(case, shape, arrays, params) < 2e-5:
                break
        else:
            raise SystemExit(f"{name}: no draw that is well conditioned, {worst}")
        kept[name] = params
        for what, array in arrays.items():
            np.save(OUT / f"{name}.{what}.npy", np.asarray(array, dtype=np.float32))
    for what, array in deep().items():
        np.save(OUT / f"deep.{what}.npy", array.astype(np.float32))
    print(sum(f.stat().st_size for f in OUT.glob("*.npy")), "bytes")


if __name__ == "__main__":
    main()
