"""Goldens for tests/test_quant.cc, from NumPy alone and written from method.md section 2.

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


if __name__ == "__main__":
    main()
