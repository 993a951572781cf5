#!/usr/bin/env python3
"""Images a second of a timm model on all CPUs: vitrun in batches and in several sessions, OpenVINO int8 in streams.

    peers/bin/python bench/peers/throughput.py --programs build --arch deit_small_patch16_224 --threads 2

The files are those of compare.py. Contenders take turns; each runs for a second at a time, `--rounds` times, and the
median is printed.
"""
import argparse
import os
import pathlib
import statistics
import tempfile
import threading
import time

import numpy as np
import openvino as ov

import compare


def vitrun_batches(library, path, threads, batch, x):
    """A function that runs one batch and returns its images."""
    run = compare.vitrun_runner(library, path, threads, b"", np.repeat(x, batch, axis=0))

    def count():
        run()
        return batch

    return count


def together(runners):
    """Runs each in a thread of its own (ctypes lets go of Python's lock) and counts their images for `seconds`."""

    def count(seconds):
        done, end = [0] * len(runners), time.perf_counter() + seconds

        def work(i):
            while time.perf_counter() < end:
                done[i] += runners[i]()

        workers = [threading.Thread(target=work, args=(i,)) for i in range(len(runners))]
        start = time.perf_counter()
        for w in workers:
            w.start()
        for w in workers:
            w.join()
        return sum(done) / (time.perf_counter() - start)

    return count


def openvino_streams(model, threads, streams, x):
    compiled = ov.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": streams,
                                                      "PERFORMANCE_HINT": "THROUGHPUT",
                                                      "INFERENCE_PRECISION_HINT": "f32"})
    queue = ov.AsyncInferQueue(compiled, 2 * streams)

    def count(seconds):
        done, start = 0, time.perf_counter()
        while time.perf_counter() < start + seconds:
            queue.start_async({0: x})
            done += 1
        queue.wait_all()
        return done / (time.perf_counter() - start)

    return count


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--programs", default="build", help="folder of vitquant and libvitrun.so")
    parser.add_argument("--arch", default="deit_small_patch16_224", help="a timm name")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    library = os.path.abspath(f"{args.programs}/libvitrun.so")
    model, x = compare.random_model(args.arch, None)
    with tempfile.TemporaryDirectory() as folder:
        files = compare.prepare(model, args.arch, args.programs, pathlib.Path(folder), x)
        int8 = compare.openvino_int8(ov.Core().read_model(str(files["f32"])), x)
        runs = {f"OpenVINO int8, streams: {s}": openvino_streams(int8, args.threads, s, x) for s in (1, args.threads)}
        for bits in (8, 4):
            path = files[f"W{bits}"]
            for batch in (1, 8, 32):
                runs[f"vitrun W{bits}/A8, a session of {args.threads} threads, batch {batch}"] = together(
                    [vitrun_batches(library, path, args.threads, batch, x)])
            runs[f"vitrun W{bits}/A8, {args.threads} sessions of 1 thread, batch 1"] = together(
                [vitrun_batches(library, path, 1, 1, x) for _ in range(args.threads)])
        rates = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, count in runs.items():
                count(0.1)
                rates[name].append(count(1))
    print(f"| {args.arch}, {args.threads} threads | images a second |\n|---|---|")
    for name, values in rates.items():
        print(f"| {name} | {statistics.median(values):.0f} |")


if __name__ == "__main__":
    main()
