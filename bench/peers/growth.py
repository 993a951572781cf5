#!/usr/bin/env python3
"""How time and memory grow with the image, the batch, the model and the bits: vitrun beside OpenVINO and ONNX Runtime.

    peers/bin/python bench/peers/growth.py measure --programs build --axes size,batch,model,bits -o growth.json
    peers/bin/python bench/peers/growth.py draw growth.json --svg bench/results/growth.svg > growth.md

Random weights (compare.py). Every measurement is a process of its own: it loads one model, runs it once, then for half a
second and at least three times, and says the median, and by how much its peak of resident memory lies above what it had
before the model was loaded. Contenders take turns, `--rounds` times; the medians of the rounds are kept. OUT is rewritten
after each point, and points that it already has are not measured again.
"""
import argparse
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

MODELS = ["deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "vit_large_patch16_224",
          "vit_huge_patch14_224"]
SIZES, BATCHES = [112, 224, 448, 672, 1024], [1, 4, 8, 32]
BITS = ["3/8", "4/4", "4/8", "5/8", "6/8", "8/8"]
ONNX_LIMIT = 2**31  # bytes of a protobuf file


# ---- one measurement ----

def resident(key):
    """Kilobytes of this process: VmRSS now, VmHWM at most."""
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    raise RuntimeError(key)


def runner(kind, path, library, threads, x):
    import compare
    if kind == "vitrun":
        return lambda: compare.vitrun_runner(library, path, threads, b"", x)
    if kind == "OpenVINO":
        return lambda: compare.openvino_runner(path, threads, x)
    return lambda: compare.ort_runner(path, threads, x)


def run_one(kind, path, library, threads, x_path):
    import numpy as np
    x = np.load(x_path)
    make = runner(kind, path, library, threads, x)
    before = resident("VmRSS")
    run = make()
    run()
    times, end = [], time.perf_counter() + 0.5
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1e3)
    print(json.dumps({"ms": statistics.median(times), "mb": (resident("VmHWM") - before) / 1024}))


# ---- the points ----

def points_of(axis, arch):
    """(label on the axis, architecture, side of the image, batch)"""
    if axis == "size":
        return [(size, arch, size, 1) for size in SIZES]
    if axis == "batch":
        return [(batch, arch, 224, batch) for batch in BATCHES]
    if axis == "model":
        return [(name, name, 224, 1) for name in MODELS]
    return [("bits", arch, 224, 1)]


def peers_files(model, x, folder):
    """OpenVINO's int8 by NNCF and its float, and ONNX Runtime's dynamic int8 where a file can hold the model."""
    import openvino as ov
    import torch

    import compare
    converted = ov.convert_model(model, example_input=torch.from_numpy(x), input=[list(x.shape)])
    files = {"OpenVINO f32": folder / "f32.xml", "OpenVINO int8": folder / "int8.xml"}
    ov.save_model(converted, files["OpenVINO f32"], compress_to_fp16=False)
    ov.save_model(compare.openvino_int8(converted, x, 2), files["OpenVINO int8"], compress_to_fp16=False)
    if sum(p.numel() * p.element_size() for p in model.parameters()) < ONNX_LIMIT:
        files["ONNX Runtime int8"] = compare.onnx_files(model, x, folder)[-1]
    return files


def contenders(args, axis, arch, size, batch, folder):
    """How many parameters the model has, and each contender's file."""
    import numpy as np

    import compare
    model, one = compare.random_model(arch, size)
    x = np.repeat(one, batch, axis=0)
    np.save(folder / "x.npy", x)
    ours = compare.vitquant_files(model, arch, args.programs, folder, one, BITS if axis == "bits" else ["4/8", "8/8"])
    files = {f"vitrun W{bits.replace('/', '/A')}": path for bits, path in ours.items()}
    return sum(p.numel() for p in model.parameters()), files | ({} if axis == "bits" else peers_files(model, x, folder))


def measure_point(args, axis, label, arch, size, batch):
    library = os.path.abspath(f"{args.programs}/libvitrun.so")
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        parameters, files = contenders(args, axis, arch, size, batch, folder)
        found = {}
        for _ in range(args.rounds):
            for contender, path in files.items():
                for threads in args.threads:
                    out = subprocess.run([sys.executable, __file__, "one", contender.split()[0], path, library, str(threads),
                                          folder / "x.npy"], check=True, capture_output=True, text=True).stdout
                    found.setdefault((contender, threads), []).append(json.loads(out))
        file_mb = {contender: sum(f.stat().st_size for f in (path, path.with_suffix(".bin")) if f.exists()) / 1e6
                   for contender, path in files.items()}
    return [{"axis": axis, "at": label, "arch": arch, "size": size, "batch": batch, "parameters": parameters, "contender": contender,
             "threads": threads, "ms": round(statistics.median(r["ms"] for r in rows) / batch, 3),
             "mb": round(statistics.median(r["mb"] for r in rows), 1), "file_mb": round(file_mb[contender], 2)}
            for (contender, threads), rows in found.items()]


def measure(args):
    rows = json.loads(args.out.read_text()) if args.out.exists() else []
    for axis in args.axes.split(","):
        for point in points_of(axis, args.arch):
            if any((r["axis"], r["at"]) == (axis, point[0]) for r in rows):
                continue
            start = time.time()
            rows += measure_point(args, axis, *point)
            args.out.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
            print(f"{axis} {point[0]}: {time.time() - start:.0f} s", file=sys.stderr, flush=True)


# ---- the page ----

COLOURS = {"vitrun W4/A8": "#c0392b", "vitrun W8/A8": "#e08e0b", "OpenVINO int8": "#1b6ca8", "OpenVINO f32": "#7fb3d5",
           "ONNX Runtime int8": "#2e7d32"}
TITLES = {"size": "side of the image, pixels", "batch": "images a run", "model": "parameters, millions"}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 330, 260, 48, 12, 26, 40


def place(axis, row):
    return row["parameters"] / 1e6 if axis == "model" else row["at"]


def nice(value):
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def panel(rows, axis, key, title, left, top):
    """One log-log plot: a line for each contender, on one thread."""
    rows = [r for r in rows if r["axis"] == axis and r["threads"] == min(r["threads"] for r in rows) and r["contender"] in COLOURS]
    xs, ys = [place(axis, r) for r in rows], [max(r[key], 0.1) for r in rows]
    span = lambda v, low, high, a, b: a + (math.log(v) - math.log(low)) / (math.log(high) - math.log(low) or 1) * (b - a)
    x = lambda v: left + span(v, min(xs), max(xs), LEFT, WIDTH - RIGHT)
    y = lambda v: top + span(v, min(ys) / 1.2, max(ys) * 1.2, HEIGHT - BOTTOM, TOP)
    parts = [f'<text x="{left + LEFT}" y="{top + 16}">{title}</text>',
             f'<text x="{left + LEFT}" y="{top + HEIGHT - 6}">{TITLES[axis]}</text>']
    for v in sorted(set(xs)):
        parts.append(f'<text x="{x(v):.1f}" y="{top + HEIGHT - BOTTOM + 16}" text-anchor="middle">{nice(v)}</text>')
    step = 10 ** math.floor(math.log10(min(ys) / 1.2))
    while step < max(ys) * 1.2:
        for v in (step, 2 * step, 5 * step):
            if min(ys) / 1.2 <= v <= max(ys) * 1.2:
                parts.append(f'<path d="M{left + LEFT} {y(v):.1f}h{WIDTH - LEFT - RIGHT}" stroke="#ddd"/>'
                             f'<text x="{left + LEFT - 5}" y="{y(v) + 4:.1f}" text-anchor="end">{nice(v)}</text>')
        step *= 10
    for contender, colour in COLOURS.items():
        line = sorted((place(axis, r), max(r[key], 0.1)) for r in rows if r["contender"] == contender)
        if line:
            path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in line)
            parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="2.5" fill="{colour}"/>' for a, b in line]
    return parts


def svg(rows):
    axes = [a for a in TITLES if any(r["axis"] == a for r in rows)]
    width, height = WIDTH * len(axes), 2 * HEIGHT + 24
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for i, axis in enumerate(axes):
        parts += panel(rows, axis, "ms", "ms an image, one thread", i * WIDTH, 0)
        parts += panel(rows, axis, "mb", "MB of memory", i * WIDTH, HEIGHT)
    for i, (contender, colour) in enumerate(COLOURS.items()):
        parts.append(f'<text x="{LEFT + 150 * i}" y="{2 * HEIGHT + 16}" fill="{colour}">{contender}</text>')
    return "\n".join(parts + ["</svg>"]) + "\n"


def tables(rows):
    """Markdown: for each axis a row for each point and number of threads; 'ms an image / MB' of each contender."""
    lines = []
    for axis in dict.fromkeys(r["axis"] for r in rows):
        own = [r for r in rows if r["axis"] == axis]
        names = list(dict.fromkeys(r["contender"] for r in own))
        lines += [f"\n| {TITLES.get(axis, axis).split(',')[0]} | threads | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
        for at, threads in dict.fromkeys((r["at"], r["threads"]) for r in own):
            cells = {r["contender"]: f'{r["ms"]:.2f} / {r["mb"]:.0f}' for r in own if (r["at"], r["threads"]) == (at, threads)}
            lines.append(f"| {at} | {threads} | " + " | ".join(cells.get(n, "") for n in names) + " |")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = parser.add_subparsers(dest="task", required=True)
    measuring = tasks.add_parser("measure", help="measure what OUT lacks")
    measuring.add_argument("--programs", default="build", help="folder of vitquant and libvitrun.so")
    measuring.add_argument("--axes", default="size,batch,model,bits")
    measuring.add_argument("--arch", default="deit_small_patch16_224", help="timm name of the model whose size, batch and bits vary")
    measuring.add_argument("--threads", type=lambda text: list(map(int, text.split(","))), default=[1, 2])
    measuring.add_argument("--rounds", type=int, default=3)
    measuring.add_argument("-o", "--out", type=pathlib.Path, required=True)
    drawing = tasks.add_parser("draw", help="print the tables, draw the curves")
    drawing.add_argument("json", type=pathlib.Path)
    drawing.add_argument("--svg", type=pathlib.Path, required=True)
    one = tasks.add_parser("one", help="a single measurement")
    one.add_argument("arguments", nargs=5)
    args = parser.parse_args()
    if args.task == "measure":
        measure(args)
    elif args.task == "one":
        kind, path, library, threads, x = args.arguments
        run_one(kind, path, library, int(threads), x)
    else:
        rows = json.loads(args.json.read_text())
        args.svg.write_text(svg(rows))
        print(tables(rows))


if __name__ == "__main__":
    main()
