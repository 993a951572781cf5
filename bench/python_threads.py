#!/usr/bin/env python3
"""How many times as fast several Python threads on one model are as one thread (docs/benchmarking.md).

    venv/bin/python bench/python_threads.py --model vit.qbin [--threads 4] [--rounds 15] [--images 200]

Every session has one thread of the library. A round classifies the same images by one Python thread and by several, in turn.
"""
import argparse
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import vitrun


def seconds(pool, model, images):
    start = time.perf_counter()
    for _ in pool.map(model.predict, images):
        pass
    return time.perf_counter() - start


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--images", type=int, default=200, help="in a round")
    args = parser.parse_args()
    model = vitrun.Model(args.model, threads=1)
    pixels = np.random.default_rng(0).integers(0, 256, (16, model.height, model.width, 3), np.uint8)
    images = [pixels[i % 16] for i in range(args.images)]
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(args.threads) as several:
        seconds(one, model, images), seconds(several, model, images)  # sessions are made
        times = [(seconds(one, model, images), seconds(several, model, images)) for _ in range(args.rounds)]
    cpus = len(os.sched_getaffinity(0))
    print(f"{model.name}, {cpus} CPUs, median of {args.rounds} rounds of {args.images} images; minimum")
    for name, column in (("1 thread", 0), (f"{args.threads} threads", 1)):
        rounds = [row[column] * 1e3 / args.images for row in times]
        print(f"{name:>10}  {statistics.median(rounds):7.3f} ms an image  {min(rounds):7.3f}")
    print(f"{'ratio':>10}  {statistics.median(a / b for a, b in times):7.2f}              {max(a / b for a, b in times):7.2f} (best)")


if __name__ == "__main__":
    main()
