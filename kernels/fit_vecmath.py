#!/usr/bin/env python3
"""Fits the polynomials of kernels/shared/vecmath-inl.h and measures them in float32.

Needs numpy and mpmath. Prints each coefficient as a C++ hexadecimal float, lowest power first, and
the largest error of a float32 evaluation (every multiply-add rounded once) against the double.
"""
import math

import mpmath as mp
import numpy as np

mp.mp.dps = 40


def remez(f, weight, degree, low, high, real=np.float32):
    """Coefficients of the polynomial p that minimises max |weight (p - f)| on [low, high]."""
    low, high, n, rounds, points = mp.mpf(low), mp.mpf(high), degree + 2, 20, 2001
    nodes = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * i / (n - 1)) for i in range(n)]
    grid = [low + (high - low) * i / (points - 1) for i in range(points)]
    values, weights = [f(x) for x in grid], [weight(x) for x in grid]
    for _ in range(rounds):
        a, b = mp.matrix(n, n), mp.matrix(n, 1)
        for i, x in enumerate(nodes):
            for j in range(degree + 1):
                a[i, j] = x**j
            a[i, degree + 1] = (-1) ** i / weight(x)
            b[i] = f(x)
        solution = mp.lu_solve(a, b)
        poly = [solution[j] for j in range(degree + 1)]
        error = [w * (mp.polyval(poly[::-1], x) - v) for w, x, v in zip(weights, grid, values)]
        extrema = sign_run_extrema(error)
        if len(extrema) < n:
            break
        while len(extrema) > n:
            extrema.pop(0 if abs(error[extrema[0]]) < abs(error[extrema[-1]]) else -1)
        if max(map(abs, error)) < abs(solution[degree + 1]) * mp.mpf("1.001"):
            break
        nodes = [grid[i] for i in extrema]
    return [real(float(c)) for c in poly]


def sign_run_extrema(error):
    extrema, current = [], 0
    for i in range(1, len(error)):
        if (error[i] > 0) != (error[current] > 0):
            extrema.append(current)
            current = i
        elif abs(error[i]) > abs(error[current]):
            current = i
    return extrema + [current]


def fma(a, b, c):
    return (np.float64(a) * np.float64(b) + np.float64(c)).astype(np.float32)


def horner(poly, x):
    y = np.full_like(x, poly[-1])
    for c in poly[-2::-1]:
        y = fma(y, x, c)
    return y


def short_hex(c):
    mantissa, exponent = float(c).hex().split("p")
    return mantissa.rstrip("0") + "p" + exponent


def show(name, poly, suffix="f"):
    print(f"{name}: " + ", ".join(short_hex(c) + suffix for c in poly))


def ulp_error(got, want):
    return float(np.max(np.abs(got - want) / np.spacing(np.abs(want).astype(np.float32))))


def fit_exp():
    """exp(r) = 1 + r + r^2 P(r) on |r| <= ln 2 / 2, after r = x - n ln 2 in two steps."""
    half = mp.log(2) / 2 * mp.mpf("1.0001")
    f = lambda r: (mp.exp(r) - 1 - r) / r**2 if abs(r) > 1e-9 else mp.mpf(1) / 2 + r / 6
    poly = remez(f, lambda r: r * r / mp.exp(r) + mp.mpf("1e-9"), 4, -half, half)
    # `high` has 15 bits, so that n * high is exact for every |n| < 2^9.
    high = np.float32(math.floor(math.log(2) * 2**15) / 2**15)
    low = np.float32(float(mp.log(2) - mp.mpf(float(high))))
    x = np.linspace(-87, 88, 4000001).astype(np.float32)
    n = fma(x, np.float32(1 / math.log(2)), np.float32(1.5 * 2**23)) - np.float32(1.5 * 2**23)
    r = fma(n, -low, fma(n, -high, x))
    y = np.ldexp(fma(fma(horner(poly, r), r, np.float32(1)), r, np.float32(1)), n.astype(int))
    show("exp", poly)
    print(f"  ln2 = {short_hex(high)}f + {short_hex(low)}f")
    print(f"  max error {ulp_error(y, np.exp(x.astype(np.float64))):.3f} ulp on [-87, 88]")


def fit_gelu():
    """Phi(-t) = (c + P(t))^2 on [0, 5.6]. Taking the root halves the range of exponents, which keeps
    Horner's rule accurate. c = 0.70703125 has an exact square and leaves P small near 0, where the
    rounding of the root would count most. The weight is that of the absolute error of Phi."""
    c = np.float32(0.70703125)
    root = lambda t: mp.sqrt(mp.erfc(t / mp.sqrt(2)) / 2)
    poly = remez(lambda t: root(t) - mp.mpf(float(c)), lambda t: root(t) + mp.mpf("0.001"), 12, 0,
                 "5.6")
    x = np.linspace(-8, 8, 800001).astype(np.float32)
    t = np.minimum(np.abs(x), np.float32(5.6))
    p = horner(poly, t)
    y = fma(-t, fma(p, p + 2 * c, c * c), np.maximum(x, np.float32(0)))
    want = np.array([0.5 * v * math.erfc(-v / math.sqrt(2)) for v in x.astype(np.float64)])
    show("gelu", poly)
    positive = x > 0
    print(f"  max error {np.max(np.abs(y - want)[~positive]):.3g} for x <= 0, "
          f"{ulp_error(y[positive], want[positive]):.3f} ulp for x > 0")


def fit_log2():
    """log2(m) = z P(z^2), z = (m - 1) / (m + 1), on [sqrt 1/2, sqrt 2]. The kernel evaluates it in
    double, since a row needs it only once."""
    f = lambda u: 2 * mp.atanh(mp.sqrt(u)) / mp.sqrt(u) / mp.log(2) if u > 0 else 2 / mp.log(2)
    poly = remez(f, lambda u: 1 / f(u), 3, 0, "0.02945", np.float64)
    m = np.linspace(math.sqrt(0.5), math.sqrt(2), 1000001).astype(np.float32).astype(np.float64)
    z = (m - 1) / (m + 1)
    y = (z * np.polyval(poly[::-1], z * z)).astype(np.float32)
    want = np.log2(m)
    show("log2", poly, "")
    away = np.abs(want) > 0
    print(f"  max error {ulp_error(y[away], want[away]):.3f} ulp of log2(m)")


if __name__ == "__main__":
    fit_exp()
    fit_gelu()
    fit_log2()
