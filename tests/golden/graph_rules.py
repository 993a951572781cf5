"""The operations of make_graphs.py, each with its relevance rule, on a tape."""
import numpy as np
import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
torch.set_num_threads(1)


def safe(a, b):
    den = b.clamp(min=1e-9) + b.clamp(max=1e-9)  # = b + 1e-9
    return a / (den + den.eq(0) * 1e-9) * b.ne(0)


class Value:
    """[rows, cols], its map where the rows are one, and the relevances that arrived."""

    def __init__(self, t, map=None):
        self.t, self.map, self.arrived = t, map, []

    @property
    def x(self):
        return self.t.detach()

    def image(self, t=None):
        t = self.x if t is None else t
        return t.T.reshape(1, t.shape[1], *self.map)


def rows_of(image):
    return image.reshape(image.shape[1], -1).T


class Net:
    """A run on one image. Parameters are drawn once, by their order."""

    def __init__(self, image, planar, generator, params):
        self.generator, self.params, self.next = generator, params, 0
        self.tape, self.outputs, self.worst = [], [], 0.0
        self.leaf = image.clone().requires_grad_()
        if not planar:
            self.input = Value(self.leaf.reshape(-1, image.shape[-1]), image.shape[:2])

    # --- parameters ---
    def param(self, make):
        if self.next == len(self.params):
            self.params.append(make().to(torch.float32).to(torch.float64))
        self.next += 1
        return self.params[self.next - 1]

    def normal(self, *dims, scale=1.0, mean=0.0):
        return self.param(lambda: torch.randn(dims, generator=self.generator) * scale + mean)

    def matrix(self, n, *depth):
        return self.normal(n, *depth, scale=float(np.prod(depth)) ** -0.5)

    # --- the tape ---
    def op(self, y, map, rule):
        v = Value(y, map)
        self.tape.append((v, rule))
        return v

    def divide(self, r, b, terms):
        """safe(r, b), where `terms` is the size of what b is a sum of."""
        if b.numel():
            hit = (r.abs() * terms / b.abs().clamp(min=1e-300))[b != 0]
            if hit.numel():
                self.worst = max(self.worst, float(hit.max()))
        return safe(r, b)

    def output(self, v):
        self.outputs.append(v)

    def walk(self):
        total = 0
        for v in self.outputs:
            d = direction(v.t.shape)
            total = total + (d * v.t).sum()
            v.arrived.append(d.abs())
        total.backward()
        for v, rule in reversed(self.tape):
            if v.arrived:
                rule(self.joined(v))
        if hasattr(self, "input"):
            return self.leaf.grad, self.joined(self.input).reshape(self.leaf.shape)
        return self.pixels.grad[0], self.image_relevance

    def joined(self, v):
        """The rule for fan-out; readers that take parts add theirs."""
        if len(v.arrived) == 1:
            return v.arrived[0]
        return v.x * sum(safe(r, v.x) for r in v.arrived)

    # --- operations ---
    def constant(self, *dims, map=None, scale=1.0, mean=0.0):
        return Value(self.normal(*dims, scale=scale, mean=mean), map)

    def linear_rule(self, x, w, r):
        xp, xn, wp, wn = x.clamp(min=0), x.clamp(max=0), w.clamp(min=0), w.clamp(max=0)
        z = xp @ wp.T + xn @ wn.T
        s = self.divide(r, z, x.abs() @ w.abs().T)
        return xp * (s @ wp) + xn * (s @ wn)

    def linear(self, x, n, bias=True):
        w = self.matrix(n, x.t.shape[1])
        b = self.normal(n, scale=0.2) if bias else None
        return self.op(F.linear(x.t, w, b), x.map, lambda r: x.arrived.append(self.linear_rule(x.x, w, r)))

    def convolution(self, x, n, k, stride, padding, order="cyx", behind=(0, 0), scaled=None):
        """Window and Linear. `x` a value on a map, or the image that the net was given."""
        image = self.leaf[None] if x is None else x.image(x.t)
        if scaled is not None:
            image = self.pixels = image * scaled[0][:, None, None] + scaled[1][:, None, None]
            image.retain_grad()
        c = image.shape[1]
        if order == "cyx":
            w = given = self.matrix(n, c, k, k)
        else:
            given = self.matrix(n, k * k * c)
            axes = {"yxc": (0, 3, 1, 2), "xyc": (0, 3, 2, 1)}[order]
            w = given.reshape(n, k, k, c).permute(axes)
        b = self.normal(n, scale=0.2)
        pads = (padding, padding + behind[1], padding, padding + behind[0])
        conv = lambda t, weight: F.conv2d(F.pad(t, pads), weight, stride=stride)
        y = conv(image, w) + b[:, None, None]

        def rule(r):
            t = image.detach()
            r = r.T.reshape(1, n, *y.shape[2:])
            wp, wn = w.clamp(min=0), w.clamp(max=0)
            s = self.divide(r, conv(t.clamp(min=0), wp) + conv(t.clamp(max=0), wn), conv(t.abs(), w.abs()))
            def back(weight):
                probe = torch.zeros_like(t, requires_grad=True)
                (conv(probe, weight) * s).sum().backward()
                return probe.grad
            out = t.clamp(min=0) * back(wp) + t.clamp(max=0) * back(wn)
            if x is None:
                self.image_relevance = out[0]
            else:
                x.arrived.append(rows_of(out))
        return self.op(rows_of(y), y.shape[2:], rule)

    def transposed(self, x, n, k, stride, padding):
        """Linear and Unwindow. The Linear's rows are in the order y, x, channel."""
        c = x.t.shape[1]
        given = self.matrix(k * k * n, c)
        w = given.reshape(k, k, n, c).permute(3, 2, 0, 1)
        b = self.normal(n, scale=0.2)
        y = F.conv_transpose2d(x.image(x.t), w, b, stride=stride, padding=padding)

        def rule(r):
            flat = w.reshape(c, -1)
            parts = x.x @ flat  # [positions, n k k]
            sums = F.conv_transpose2d(x.image(), w, None, stride=stride, padding=padding)
            sizes = F.conv_transpose2d(x.image().abs(), w.abs(), None, stride=stride, padding=padding)
            s = self.divide(r.T.reshape(sums.shape), sums, sizes)
            of_parts = parts * F.unfold(s, k, padding=padding, stride=stride)[0].T
            x.arrived.append(self.linear_rule(x.x, flat.T, of_parts))
        return self.op(rows_of(y), y.shape[2:], rule)

    def pool(self, x, largest, k=None, stride=1, padding=0):
        if k is None:
            y = x.t.amax(0, keepdim=True) if largest else x.t.mean(0, keepdim=True)
            map, groups = None, [list(range(x.t.shape[0]))]
        else:
            y = (F.max_pool2d(x.image(x.t), k, stride, padding) if largest else
                 F.avg_pool2d(x.image(x.t), k, stride, padding, count_include_pad=False))
            map, (h, w) = y.shape[2:], x.map
            groups = [[r * w + c for r in range(i * stride - padding, i * stride - padding + k)
                       for c in range(j * stride - padding, j * stride - padding + k)
                       if 0 <= r < h and 0 <= c < w] for i in range(map[0]) for j in range(map[1])]
            y = rows_of(y)

        def rule(r):
            out = torch.zeros_like(x.x)
            for i, rows in enumerate(groups):
                part = x.x[rows]
                if largest:
                    for j in range(part.shape[1]):
                        first = max(range(len(rows)), key=lambda k: (part[k, j], -k))
                        out[rows[first], j] += r[i, j]
                else:
                    s = self.divide(r[i], part.mean(0), part.abs().mean(0))
                    out[rows] += part * s / len(rows)
            x.arrived.append(out)
        return self.op(y, map, rule)

    def resize(self, x, mode, size):
        options = {} if mode == "nearest" else {"align_corners": False}
        n = x.map[0] * x.map[1]
        each = torch.eye(n).reshape(n, 1, *x.map)
        weights = F.interpolate(each, size=size, mode=mode, **options).reshape(n, -1)  # [from, to]
        y = rows_of(F.interpolate(x.image(x.t), size=size, mode=mode, **options))

        def rule(r):
            s = self.divide(r, weights.T @ x.x, weights.T @ x.x.abs())
            x.arrived.append(x.x * (weights @ s))
        return self.op(y, size, rule)

    def concat(self, xs, columns=False):
        axis = 1 if columns else 0

        def rule(r):
            for x, part in zip(xs, torch.split(r, [x.t.shape[axis] for x in xs], axis)):
                x.arrived.append(part)
        return self.op(torch.cat([x.t for x in xs], axis), xs[0].map if columns else None, rule)

    def slice(self, x, begin, end, columns=False):
        cut = (slice(None), slice(begin, end)) if columns else slice(begin, end)

        def rule(r):
            out = torch.zeros_like(x.x)
            out[cut] = r
            x.arrived.append(out)
        return self.op(x.t[cut], x.map if columns else None, rule)

    def same(self, x, y):
        return self.op(y, x.map, lambda r: x.arrived.append(r))

    def act(self, x, f):
        return self.same(x, f(x.t))

    def norm(self, x, kind, eps, group=None):
        c = x.t.shape[1]
        gamma = self.normal(c, scale=0.2, mean=1)
        beta = self.normal(c, scale=0.2) if kind == "layer" else 0
        parts = x.t.reshape(x.t.shape[0], -1, group or c)
        over = parts.shape[-1:]
        y = (F.layer_norm(parts, over, eps=eps) if kind == "layer" else F.rms_norm(parts, over, eps=eps)
             if kind == "rms" else F.normalize(parts, dim=-1, eps=eps))
        return self.same(x, y.reshape(x.t.shape) * gamma + beta)

    def scale(self, x, constant):
        return self.same(x, x.t * constant.t)

    def shift(self, x, constant):
        return self.same(x, x.t + constant.t)

    def mul(self, x, y):
        def rule(r):
            x.arrived.append(r / 2)
            y.arrived.append(r.sum(0, keepdim=True) / 2 if y.t.shape[0] < r.shape[0] else r / 2)
        return self.op(x.t * y.t, x.map, rule)

    def add(self, x, y, alpha=1.0):
        def rule(r):
            s = self.divide(r, x.x + y.x, x.x.abs() + y.x.abs())
            rx, ry = x.x * s, y.x * s
            sx, sy, total = rx.sum(), ry.sum(), r.sum()
            both = sx.abs() + sy.abs()
            both_terms = torch.stack([rx.abs().max(), ry.abs().max()])
            self.divide(both_terms, torch.stack([sx, sy]), both_terms)
            x.arrived.append(rx * (sx.abs() / both * total / sx))
            y.arrived.append(ry * (sy.abs() / both * total / sy))
        return self.op(alpha * (x.t + y.t), x.map, rule)

    def rope(self, x, table, dim, interleaved, begin, end):
        """`table` has the angles of one head for all, or of each head."""
        first, half = x.t.shape[0] - table.t.shape[0], dim // 2
        angles = table.t.reshape(table.t.shape[0], -1, 2, half)
        cos, sin = angles[:, :, 0], angles[:, :, 1]
        heads = x.t[first:, begin:end].reshape(table.t.shape[0], -1, dim)
        pairs = torch.view_as_complex((heads.reshape(*heads.shape[:2], half, 2) if interleaved else
                                       heads.reshape(*heads.shape[:2], 2, half).transpose(-1, -2)).contiguous())
        turned = torch.view_as_real(pairs * torch.complex(cos, sin))
        turned = turned if interleaved else turned.transpose(-1, -2)
        y = x.t.clone()
        y[first:, begin:end] = turned.reshape(heads.shape[0], -1)
        return self.same(x, y)

    def attention(self, q, k, v, heads, bias=None, causal=False, index=None, table=None, region=None,
                  pads=(None, None, None)):
        """q, k, v values of heads * dim columns. `index` [windows, tokens] into their rows and a last
        one, `pads`, for padding; [1, rows] where there are no windows."""
        dim = q.t.shape[1] // heads
        whole = index is None
        def split(x, pad):
            t = x.t if pad is None else torch.cat([x.t, pad[None]])
            t = t[None] if whole else t[index]
            return t.reshape(t.shape[0], t.shape[1], heads, dim).transpose(1, 2)
        def back(x, r):  # [windows, heads, tokens, dim]
            r = r.transpose(1, 2).reshape(-1, heads * dim)
            out = torch.zeros(x.t.shape[0] + 1, heads * dim)
            out.index_add_(0, torch.arange(r.shape[0]) if whole else index.reshape(-1), r)
            x.arrived.append(out[:-1])
        qs, ks, vs = split(q, pads[0]), split(k, pads[1]), split(v, pads[2])
        c = qs @ ks.transpose(-1, -2)
        scores = c * dim ** -0.5
        if bias is not None:
            scores = scores + bias
        if table is not None:
            scores = scores + table
        if region is not None:
            scores = scores + torch.where(region[:, :, None] == region[:, None, :], 0.0, -100.0)[:, None]
        if causal:
            scores = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf)
        p = scores.softmax(-1)
        mixed = p @ vs
        y = mixed.transpose(1, 2).reshape(-1, heads * dim)
        rows = torch.arange(q.t.shape[0]) if whole else index.reshape(-1)
        if not whole:
            order = torch.argsort(rows)  # padding comes last
            y = y[order[:q.t.shape[0]]]

        def rule(r):
            flow = torch.zeros(rows.shape[0], heads * dim)
            full = torch.cat([r, torch.zeros(1, heads * dim)])
            flow = full[rows].reshape(mixed.shape[0], mixed.shape[2], heads, dim).transpose(1, 2)
            pd, vd, qd, kd = p.detach(), vs.detach(), qs.detach(), ks.detach()
            s = self.divide(flow, pd @ vd, pd @ vd.abs())
            of_p = pd * (s @ vd.transpose(-1, -2)) / 2
            back(v, vd * (pd.transpose(-1, -2) @ s) / 2)
            s = self.divide(of_p, c.detach(), qd.abs() @ kd.abs().transpose(-1, -2))
            back(q, qd * (s @ kd) / 2)
            back(k, kd * (s.transpose(-1, -2) @ qd) / 2)
        return self.op(y, q.map, rule)


def direction(shape):
    d = torch.tensor([1.0, -2, 3, -1, 2, -3]) / 3
    n = int(np.prod(shape))
    return d.repeat(n // 6 + 1)[:n].reshape(shape)
