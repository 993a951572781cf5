#!/usr/bin/env python3
"""Images per second of vitlrp beside a straightforward PyTorch implementation of the same scores.

    python3 bench/lrp_torch.py --weights model.safetensors --images list.txt --programs build

The PyTorch side is the golden tests' implementation (tests/golden/make_lrp.py) in float32 on random
pixels: the formulas as they stand, autograd for the gradient. Alternating runs, medians.
"""
import argparse
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

import torch
from safetensors.torch import load_file

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "golden"))
import make_lrp  # noqa: E402


def torch_rate(weights, config, count):
    start = time.perf_counter()
    for _ in range(count):
        tape = make_lrp.Tape()
        logits = make_lrp.vit(tape, weights, config, torch.randn(1, 3, 224, 224))
        tape.walk(logits, int(logits.argmax()))
        for y, _ in tape.named.values():
            float((y.grad * tape.at(y)).clamp(min=0).mean())
    return count / (time.perf_counter() - start)


def vitlrp_rate(args, count):
    run = subprocess.run([f"{args.programs}/vitlrp", "--weights", args.weights, "--images", args.images,
                          "--limit", str(count), "--threads", str(args.threads), "--epsilon", "0"], capture_output=True, text=True)
    return float(re.search(r"([\d.]+) images/s", run.stderr).group(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", required=True)
    parser.add_argument("--images", required=True)
    parser.add_argument("--programs", default="build")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(args.threads)
    weights = {k: v.float() for k, v in load_file(args.weights).items()}
    dim, patch = weights["cls_token"].shape[-1], weights["patch_embed.proj.weight"].shape[-1]
    depth = 1 + max(int(k.split(".")[1]) for k in weights if k.startswith("blocks."))
    config = {"model_args": {"patch_size": patch, "num_heads": dim // 64, "depth": depth}}
    torch_rate(weights, config, 1)
    theirs, ours = [], []
    for _ in range(args.rounds):
        theirs.append(torch_rate(weights, config, 4))
        ours.append(vitlrp_rate(args, 24))
    print(json.dumps({"torch_images_per_s": statistics.median(theirs), "vitlrp_images_per_s": statistics.median(ours),
                      "ratio": statistics.median(ours) / statistics.median(theirs)}))


if __name__ == "__main__":
    main()
