#!/usr/bin/env python3
"""Accuracy, bytes and speed of each row of a viteval table: a Markdown table and an SVG.

    python3 bench/pareto.py --state auto.json --weights W.safetensors --calib train/list.txt --programs build \\
        --isa avx512vnni,avx2 --svg pareto.svg > pareto.md

Quantizes each row once more (its first seed) and times the files on one thread with vitbench, one after the other, median of 31.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile


def quantize(args, row, path):
    subprocess.run([args.programs / "vitquant", "-w", args.weights, "--calib", args.calib, "--seed", str(row["seed"]),
                    *row["options"].split(), "-o", path], check=True, capture_output=True)


def milliseconds(args, isa, paths):
    """Median ms an image of each file."""
    out = subprocess.run([args.programs / "vitbench", "model", "--model", ",".join(map(str, paths)), "--isa", isa,
                          "--threads", "1", "--repetitions", "31", "--json"], check=True, capture_output=True,
                         text=True).stdout
    return [json.loads(line)["ms_p50"] for line in out.splitlines() if line.startswith("{")]


def svg(points, isas, reference):
    """Top-1 over milliseconds, one colour an ISA, the circle's area the bytes."""
    width, height, margin = 760, 420, 60
    xs = [ms for p in points for ms in p["ms"]]
    low = min(p["top1"] for p in points)
    bottom, top = low - 3, max(100 * reference, max(p["top1"] for p in points)) + 2
    x = lambda ms: margin + (width - 2 * margin) * ms / (1.1 * max(xs))
    y = lambda t: height - margin - (height - 2 * margin) * (t - bottom) / (top - bottom)
    colours = ["#5b6ee1", "#e07b39", "#3a9d5d", "#a04fb0"]
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             'font-family="system-ui,sans-serif" font-size="12" fill="#445">',
             f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for tick in range(int(bottom / 10 + 1) * 10, int(top) + 1, 10):
        parts.append(f'<path d="M{margin} {y(tick):.1f}H{width - margin}" stroke="#e4e6ee"/>'
                     f'<text x="{margin - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick} %</text>')
    parts.append(f'<path d="M{margin} {y(100 * reference):.1f}H{width - margin}" stroke="#99a" stroke-dasharray="5 4"/>'
                 f'<text x="{width - margin}" y="{y(100 * reference) - 6:.1f}" text-anchor="end">float</text>')
    for tick in range(0, int(1.1 * max(xs)) + 1, max(1, int(max(xs) / 6))):
        parts.append(f'<text x="{x(tick):.1f}" y="{height - margin + 20}" text-anchor="middle">{tick}</text>')
    parts.append(f'<text x="{width / 2}" y="{height - 14}" text-anchor="middle">ms an image, one thread</text>')
    for i, isa in enumerate(isas):
        parts.append(f'<circle cx="{margin + 20 + 130 * i}" cy="24" r="6" fill="{colours[i]}"/>'
                     f'<text x="{margin + 32 + 130 * i}" y="28">{isa}</text>')
        below = 0  # no label may be higher: they stand apart
        for p in sorted(points, key=lambda p: -p["top1"]):
            radius = 3 + 3 * (p["bytes"] / 1e6) ** 0.5
            cx, cy = x(p["ms"][i]), y(p["top1"])
            label, below = max(cy, below), max(cy, below) + 14
            parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius:.1f}" fill="{colours[i]}" fill-opacity="0.75">'
                         f'<title>{p["name"]}, {isa}: {p["top1"]:.2f} %, {p["ms"][i]:.1f} ms, {p["bytes"]} bytes</title>'
                         f'</circle><path d="M{cx + radius:.1f} {cy:.1f}L{cx + 22:.1f} {label:.1f}" stroke="#99a"/>'
                         f'<text x="{cx + 25:.1f}" y="{label + 4:.1f}">{p["name"]}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=pathlib.Path, required=True)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--calib", required=True)
    parser.add_argument("--programs", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--isa", default="avx512vnni,avx2")
    parser.add_argument("--rows", help="names to keep, separated by commas; default: all")
    parser.add_argument("--svg", type=pathlib.Path, required=True)
    args = parser.parse_args()
    state, isas = json.loads(args.state.read_text()), args.isa.split(",")
    rows = {}
    for cell in state["cells"]:
        rows.setdefault(cell["name"], []).append(cell)
    kept = args.rows.split(",") if args.rows else list(rows)
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / f"{i}.qbin" for i in range(len(kept))]
        for name, path in zip(kept, paths):
            quantize(args, rows[name][0], path)
        times = [milliseconds(args, isa, paths) for isa in isas]
    points = [{"name": name, "top1": 100 * statistics.mean(c["top1"] for c in rows[name]),
               "bytes": rows[name][0]["bytes"], "ms": [t[i] for t in times]} for i, name in enumerate(kept)]
    print("| | top-1, % | bytes | " + " | ".join(f"ms, {isa}" for isa in isas) + " |")
    print("|---|---|---|" + "---|" * len(isas))
    for p in points:
        print(f"| {p['name']} | {p['top1']:.2f} | {p['bytes']} | " + " | ".join(f"{ms:.2f}" for ms in p["ms"]) + " |")
    args.svg.write_text(svg(points, isas, state["float"]))


main()
