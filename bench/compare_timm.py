"""Holds vitrun against timm on real weights and images: logits of the same tensors, accuracy on the same files.

    pip install torch timm safetensors pillow
    python3 bench/compare_timm.py --weights DIR/model.safetensors --images DIR/list.txt --programs build

DIR holds timm's config.json too. Prints the largest difference of the float logits, relative to the largest logit, for
images preprocessed by timm and Pillow, and both top-1 accuracies, each with its own JPEG decoder and preprocessing.
"""
import argparse
import json
import pathlib
import subprocess
import tempfile

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_transform

LOGITS_IMAGES = 16


def load(weights):
    config = json.loads((weights.parent / "config.json").read_text())
    model = timm.create_model(config["architecture"], **config.get("model_args", {}))
    model.load_state_dict(load_file(weights))
    p = config["pretrained_cfg"]
    transform = create_transform(
        tuple(p["input_size"]), interpolation=p["interpolation"], mean=p["mean"], std=p["std"],
        crop_pct=p["crop_pct"], crop_mode=p.get("crop_mode"))
    return model.eval(), transform


def evaluate(model, transform, samples):
    """Top-1 over the samples; the first tensors and their logits."""
    right, kept, logits = 0, [], []
    with torch.inference_mode():
        for path, label in samples:
            x = transform(Image.open(path).convert("RGB"))[None]
            y = model(x)
            right += int(y.argmax()) == label
            if len(kept) < LOGITS_IMAGES:
                kept.append(x)
                logits.append(y)
    return right / len(samples), torch.cat(kept).numpy(), torch.cat(logits).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=pathlib.Path, required=True)
    parser.add_argument("--images", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, default="build")
    args = parser.parse_args()
    lines = [line.rsplit(" ", 1) for line in args.images.read_text().splitlines() if line]
    samples = [(args.images.parent / name, int(label)) for name, label in lines]
    accuracy, x, expected = evaluate(*load(args.weights), samples)
    with tempfile.TemporaryDirectory() as tmp:
        np.save(f"{tmp}/x.npy", x)
        subprocess.run([args.programs / "vitrun", "--model", args.weights, "--raw", f"{tmp}/x.npy", "--logits",
                        f"{tmp}/y.npy"], check=True, stdout=subprocess.DEVNULL)
        got = np.load(f"{tmp}/y.npy")
    out = subprocess.run([args.programs / "viteval", "--model", args.weights, "--images", args.images, "--exif",
                          "ignore", "--json"],
                         check=True, capture_output=True, text=True).stdout
    print(f"logits: largest difference {np.abs(got - expected).max() / np.abs(expected).max():.2e} of the largest logit")
    print(f"top-1:  timm {100 * accuracy:.2f} %, vitrun {100 * json.loads(out)['top1']:.2f} %, {len(samples)} images")


if __name__ == "__main__":
    main()
