#!/usr/bin/env python3
"""Writes tests/golden/qbin/coded_weight.bin from the specification in runtime/files/coded_weight.h.

Independent of the C++ code: it undoes the steps that the specification gives for reading, with
Python's own integers and frequencies of its own choice.
"""

import pathlib
import struct

STATES, TOTAL = 8, 4096
CODES = [3 + i * i * 7 % 97 % 13 % 9 for i in range(1003)]  # tests/runtime/files/test_coded_weight.cc


def frequencies(codes):
    count = [codes.count(u) for u in range(max(codes) + 1)]
    f = [max(1, c * TOTAL // len(codes)) if c else 0 for c in count]
    f[f.index(max(f))] += TOTAL - sum(f)
    return f


def encode(codes):
    f = frequencies(codes)
    start = [sum(f[:u]) for u in range(len(f))]
    codes = codes + [codes[0]] * (-len(codes) % (2 * STATES))
    states, words = [2**32] * STATES, []
    for i in reversed(range(len(codes))):
        u, state = codes[i], i // 2 % STATES
        if i % 2:  # before a pair: both its codes must leave the state below 2^64
            if states[state] >= f[u] * f[codes[i - 1]] << 40:
                words.append(states[state] % 2**32)
                states[state] >>= 32
        x = states[state]
        states[state] = x // f[u] * TOTAL + start[u] + x % f[u]
    first = next(u for u in range(len(f)) if f[u])
    head = struct.pack("<2B", first, len(f) - 1) + struct.pack(f"<{len(f) - first}H", *f[first:])
    return head + struct.pack("<8Q", *states) + struct.pack(f"<{len(words)}I", *reversed(words))


if __name__ == "__main__":
    out = pathlib.Path(__file__).parent / "qbin" / "coded_weight.bin"
    out.write_bytes(encode(CODES))
