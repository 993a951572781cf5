#!/usr/bin/env python3
"""Draws the logits error over the bits of a weight, a line for each rule that divides the bytes of an entropy-coded file.

Reads what `viteval --table bench/tables/rates.txt -o rates.json` wrote.

    python3 bench/rates.py --state rates.json [--state MORE.json] --svg rates.svg
"""
import argparse
import collections
import json
import math
import pathlib
import statistics

COLOURS = {"prediction": "#1b6ca8", "equal": "#444444", "relevance": "#c0392b", "relevance-error": "#e08e0b", "random": "#8e8e8e"}
WIDTH, HEIGHT, LEFT, BOTTOM = 560, 340, 50, 300


def curves(paths):
    """Rule -> [(bits a weight, mean logits error over seeds)], by bits."""
    errors = collections.defaultdict(list)
    for path in paths:
        for cell in json.loads(path.read_text())["cells"]:
            bits, rule = (part.strip(" ,") for part in cell["name"].split("bits"))
            errors[rule, float(bits)].append(cell["logits_error"])
    out = collections.defaultdict(list)
    for (rule, bits), values in sorted(errors.items()):
        out[rule].append((bits, statistics.mean(values)))
    return out


def svg(lines):
    bits = [b for points in lines.values() for b, _ in points]
    errors = [e for points in lines.values() for _, e in points]
    low, high = math.log2(min(errors) / 1.1), math.log2(max(errors) * 1.1)
    x = lambda b: LEFT + 20 + (b - min(bits)) / (max(bits) - min(bits) or 1) * (WIDTH - LEFT - 180)
    y = lambda e: BOTTOM - (math.log2(e) - low) / (high - low) * (BOTTOM - 20)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
             f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
             f'<text x="{LEFT}" y="{HEIGHT - 6}">bits a weight in the file</text>',
             '<text x="8" y="14">logits error</text>']
    for b in sorted(set(bits)):
        parts.append(f'<text x="{x(b):.1f}" y="{BOTTOM + 18}" text-anchor="middle">{b:g}</text>')
    for e in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7):
        if low < math.log2(e) < high:
            parts.append(f'<path d="M{LEFT} {y(e):.1f}H{WIDTH - 150}" stroke="#ddd"/><text x="{LEFT - 6}" y="{y(e) + 4:.1f}" text-anchor="end">{e:g}</text>')
    for i, (rule, points) in enumerate(sorted(lines.items(), key=lambda line: line[1][0][1])):
        colour = COLOURS.get(rule, "#000")
        path = "L".join(f"{x(b):.1f} {y(e):.1f}" for b, e in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(b):.1f}" cy="{y(e):.1f}" r="3" fill="{colour}"/>' for b, e in points]
        parts.append(f'<text x="{WIDTH - 140}" y="{60 + 20 * i}" fill="{colour}">{rule}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=pathlib.Path, action="append", required=True)
    parser.add_argument("--svg", type=pathlib.Path, required=True)
    args = parser.parse_args()
    args.svg.write_text(svg(curves(args.state)))


if __name__ == "__main__":
    main()
