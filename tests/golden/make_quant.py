"""Goldens for tests/quant/test_quant.cc, from NumPy alone and written from method.md sections 2 and 3.

Run: python3 tests/golden/make_quant.py   (NumPy; writes tests/golden/quant/)
"""
import pathlib

import numpy as np

OUT = pathlib.Path(__file__).parent / "quant"
PERCENTILES = (0.999, 0.9999, 0.99999)


def uniform_range(lo, hi, bits):
    lo, hi = min(lo, 0.0), max(hi, 0.0)
    scale = np.float32((hi - lo) / (2**bits - 1))
    return scale, np.rint(-lo / np.float64(scale))


def codes(x, scale, zero, bits):
    return np.clip(np.rint(x.astype(np.float64) / scale) + zero, 0, 2**bits - 1)


def search(row, bits):
    """The percentile candidate with the least squared error: scale, zero point."""
    best = None
    for p in PERCENTILES:
        lo, hi = np.quantile(row.astype(np.float64), [1 - p, p])
        scale, zero = uniform_range(lo, hi, bits)
        error = np.sum((row - scale * (codes(row, scale, zero, bits) - zero)) ** 2)
        if best is None or error < best[0] * (1 - 1e-9):
            best = (error, scale, zero)
    return best[1:]


def channel_statistics(x, bits):
    """Section 3: s and z of each column by the same search; a range keeps its own zero point unless
    it is nearly a point."""
    scales, zeros = [], []
    for column in x.T:
        best = None
        for p in PERCENTILES:
            lo, hi = np.quantile(column.astype(np.float64), [1 - p, p])
            if hi - lo < 1e-3 * max(abs(lo), abs(hi)):
                scale, zero = uniform_range(lo, hi, bits)
            else:
                scale = np.float32((hi - lo) / (2**bits - 1))
                zero = np.rint(-lo / np.float64(scale))
            error = np.sum((column - scale * (codes(column, scale, zero, bits) - zero)) ** 2)
            if best is None or error < best[0] * (1 - 1e-9):
                best = (error, scale, zero)
        scales.append(best[1])
        zeros.append(best[2])
    return np.array(scales, np.float64), np.array(zeros, np.float64)


def fold(s, z, gamma, beta, w, b, bits):
    """Section 3: the folded parameters, and the scale and zero point of the folded output."""
    s_mean, z_mean = np.mean(s), np.clip(np.rint(np.mean(z)), 0, 2**bits - 1)
    r1, r2 = s / s_mean, z - z_mean
    return gamma / r1, (beta + s * r2) / r1, w * r1, b - w @ (s * r2), s_mean, z_mean


def power_of_two_statistics(x, bits):
    """FQ-ViT: one scale and zero point for all channels, times 2^a for each, a by its own error."""
    x = x.astype(np.float64)
    top = 2**bits - 1
    whole = (max(x.max(), 0) - min(x.min(), 0)) / top
    z = np.clip(np.rint(-min(x.min(), 0) / whole), 0, top)
    scales = whole / 2**3 * 2.0 ** np.arange(4)
    errors = [np.sum((x - s * (np.clip(np.rint(x / s) + z, 0, top) - z)) ** 2, 0) for s in scales]
    return scales[np.argmin(errors, 0)], np.full(x.shape[1], z)


def make_folds(rng):
    rows, channels, outputs = 400, 24, 10
    x = (rng.standard_normal((rows, channels)) * np.geomspace(0.2, 8, channels) +
         rng.standard_normal(channels)).astype(np.float32)
    x[:, 5] *= 20  # outlier channels, as after ViT's LayerNorm
    x[:, 6] = np.abs(x[:, 6]) + 4  # far from 0
    x[:, 7] = 1.5  # a point
    gamma, beta = rng.uniform(0.5, 2, channels), rng.standard_normal(channels)
    w, b = rng.standard_normal((outputs, channels)), rng.standard_normal(outputs)
    values = {"x": x, "gamma": gamma, "beta": beta, "weight": w, "bias": b}
    for bits in (4, 8):
        s, z = channel_statistics(x, bits)
        values[f"statistics_{bits}"] = np.stack([s, z])
        for name, k in (("repq", np.inf), ("crl", 1.5)):
            hold = lambda v: np.clip(v, np.mean(v) - k * np.std(v), np.mean(v) + k * np.std(v))
            folded = fold(*((hold(s), hold(z)) if k < np.inf else (s, z)), gamma, beta, w, b, bits)
            values[f"{name}_{bits}"] = np.concatenate([np.ravel(v) for v in folded])
        s, z = power_of_two_statistics(x, bits)
        values[f"fq-vit_{bits}"] = np.concatenate([np.ravel(v) for v in fold(s, z, gamma, beta, w, b, bits)])
    for name, value in values.items():
        np.save(OUT / f"fold_{name}.npy", np.asarray(value, np.float32))


def weighted_search(row, importance, bits):
    """The part of the row's extremes, 1 down to a half, with the least weighted squared error."""
    best = None
    for step in range(21):
        part = 1 - 0.025 * step
        scale, zero = uniform_range(part * row.min(), part * row.max(), bits)
        error = np.sum(importance * (row - scale * (codes(row, scale, zero, bits) - zero)) ** 2)
        if best is None or error < best[0] * (1 - 1e-9):
            best = (error, scale, zero)
    return best[1:]


ROWS_AT_ONCE = 16


def obq(weight, hessian, order, bits, depth, importance):
    """Optimal brain quantization as GPTQ (2210.17323) has it, with the inverse Hessian: after each
    weight the others are moved to where they make up best for its error. Rows of `depth` weights get
    their ranges when the first of the next ROWS_AT_ONCE rows is begun."""
    w, inverse = weight.astype(np.float64), np.linalg.inv(hessian)
    result, ranges = np.zeros(w.size), {}
    turns = list(dict.fromkeys(j // depth for j in order))
    for j in order:
        row = j // depth
        if row not in ranges:
            first = turns.index(row)
            for r in turns[first : first + ROWS_AT_ONCE]:
                ranges[r] = weighted_search(w[r * depth : (r + 1) * depth], importance, bits)
        scale, zero = ranges[row]
        result[j] = codes(w[j : j + 1], scale, zero, bits)[0]
        error = w[j] - scale * (result[j] - zero)
        w = w - error / inverse[j, j] * inverse[j]
        w[j] = scale * (result[j] - zero)
        inverse = inverse - np.outer(inverse[:, j], inverse[j]) / inverse[j, j]
        inverse[j, :] = inverse[:, j] = 0
        inverse[j, j] = 1  # done
    return result, [ranges[row] for row in sorted(ranges)]


def hessian_of(rng, size):
    x = rng.standard_normal((300, size)) @ rng.standard_normal((size, size)) * 0.1
    hessian = x.T @ x + 0.1 * np.eye(size)
    order = np.argsort(np.diag(hessian), kind="stable")
    return hessian, order, np.linalg.cholesky(hessian[np.ix_(order, order)])


def make_feedback(rng):
    """Rows apart, and rows that make up for each other: then the Hessian of all weights at once is
    Kronecker's product. Both have known factors."""
    outputs, depth, bits = 7, 100, 4
    hessian, columns, factor = hessian_of(rng, depth)
    weight = rng.standard_normal((outputs, depth)).astype(np.float32)
    rows = [obq(w, hessian, columns[::-1], bits, depth, np.diag(hessian)) for w in weight]
    save_feedback("feedback", weight, factor, columns, np.array([r[0] for r in rows]),
                  np.array([r[1][0] for r in rows]))

    outputs, depth = ROWS_AT_ONCE + 9, 40
    hessian, columns, factor = hessian_of(rng, depth)
    between, row_order, row_factor = hessian_of(rng, outputs)
    weight = rng.standard_normal((outputs, depth)).astype(np.float32)
    order = [r * depth + c for r in row_order[::-1] for c in columns[::-1]]
    result, ranges = obq(weight.ravel(), np.kron(between, hessian), order, bits, depth, np.diag(hessian))
    save_feedback("rows", weight, factor, columns, result.reshape(weight.shape), np.array(ranges))
    np.save(OUT / "rows_between.npy", row_factor.astype(np.float32))
    np.save(OUT / "rows_order.npy", row_order[None].astype(np.float32))


def save_feedback(prefix, weight, factor, columns, result, ranges):
    for name, value in {"weight": weight, "factor": factor, "columns": columns[None], "codes": result,
                        "ranges": ranges}.items():
        np.save(OUT / f"{prefix}_{name}.npy", np.asarray(value, np.float32))


def main():
    OUT.mkdir(exist_ok=True)
    rng = np.random.default_rng(7)
    stream = rng.standard_t(3, size=20000).astype(np.float32)  # heavy tails
    quantiles = [np.quantile(stream.astype(np.float64), q) for p in PERCENTILES for q in (1 - p, p)]
    np.save(OUT / "stream.npy", stream)
    np.save(OUT / "quantiles.npy", np.array(quantiles, np.float32))  # low, high of each percentile

    weight = (rng.standard_t(4, size=(12, 96)) * np.geomspace(1e-3, 10, 12)[:, None]).astype(np.float32)
    weight[3] = np.abs(weight[3])  # one sign only
    weight[4] = 0
    weight[5] = 0.25
    np.save(OUT / "weight.npy", weight)
    for bits in (3, 4, 8):
        rows = np.array([search(row, bits) for row in weight], np.float32)
        rows[4] = (1, 0)  # an all-zero row has no scale: 1 by convention
        np.save(OUT / f"weight_ranges_{bits}.npy", rows)

    k = np.arange(256)
    values = 2.0 ** -np.ceil(k / 2) * np.where(k % 2, np.sqrt(2), 1)
    np.save(OUT / "log_sqrt2.npy", values.astype(np.float32))
    make_folds(rng)
    make_feedback(rng)


if __name__ == "__main__":
    main()
