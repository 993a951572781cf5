#!/usr/bin/env python3
"""Compares viteval --coco with pycocotools on generated detections: perturbed ground truth, random ones, and both with ties.

Usage: compare_coco.py VITEVAL instances.json [--keep DIR]   (NumPy, pycocotools)

Prints the largest difference of the 24 figures for each set of detections; fails above 1e-6.
"""
import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

FIGURES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


def shifted(bits, dx, dy):
    """A mask moved by whole pixels."""
    return np.roll(bits, (dy, dx), (0, 1))


def as_result(image, category, score, bits, box=None):
    rle = masks.encode(np.asfortranarray(bits.astype(np.uint8)))
    box = masks.toBbox(rle).tolist() if box is None else box
    return {"image_id": image, "category_id": category, "bbox": box, "score": score,
            "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}


def perturbed(coco, rng, keep, shift, decimals):
    """Objects, crowds too, with a share of them left out, moved, some twice, some of another category."""
    categories, results = coco.getCatIds(), []
    for ann in coco.loadAnns(coco.getAnnIds()):
        if rng.random() > keep:
            continue
        for _ in range(1 + (rng.random() < 0.3) + 3 * ann["iscrowd"]):
            bits = shifted(coco.annToMask(ann), *rng.integers(-shift, shift + 1, 2))
            box = [float(v) for v in np.abs(np.array(ann["bbox"]) * rng.normal(1, 0.05, 4)).round(2)]
            category = ann["category_id"] if rng.random() < 0.9 else int(rng.choice(categories))
            results.append(as_result(ann["image_id"], category, round(float(rng.random()), decimals), bits, box))
    rng.shuffle(results)
    return results


def rectangles(coco, rng, per_image):
    """Random rectangles of few categories, more than a hundred of one on some images."""
    categories, results = coco.getCatIds()[:6], []
    for image in coco.loadImgs(coco.getImgIds()):
        height, width = image["height"], image["width"]
        for _ in range(int(rng.integers(0, per_image))):
            x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
            bits = np.zeros((height, width), np.uint8)
            bits[y:y + int(rng.integers(1, height)), x:x + int(rng.integers(1, width))] = 1
            category = int(categories[0] if rng.random() < 0.5 else rng.choice(categories))
            results.append(as_result(image["id"], category, round(float(rng.random()), 2), bits))
    return results


def without(results, key):
    return [{k: v for k, v in r.items() if k != key} for r in results]


def reference(coco, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(coco, coco.loadRes(json.loads(json.dumps(results))), kind)
        evaluation.evaluate(), evaluation.accumulate(), evaluation.summarize()
    return evaluation.stats


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("viteval")
    parser.add_argument("instances")
    parser.add_argument("--keep", help="a folder for the detections")
    args = parser.parse_args()
    folder = pathlib.Path(args.keep or tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(args.instances)
    rng = np.random.default_rng(1)
    good = perturbed(coco, rng, 0.8, 3, 6)
    sets = {"perturbed": good, "ties": perturbed(coco, rng, 0.6, 12, 1), "random": rectangles(coco, rng, 260),
            "everything": good + rectangles(coco, rng, 60), "masks alone": without(good, "bbox"),
            "boxes alone": without(good, "segmentation")}
    worst = 0
    for name, results in sets.items():
        path = folder / f"{name.replace(' ', '_')}.json"
        path.write_text(json.dumps(results))
        start = time.time()
        done = subprocess.run([args.viteval, "--coco", args.instances, "--detections", path, "--json"],
                              capture_output=True, text=True, check=True)
        seconds, found = time.time() - start, json.loads(done.stdout)
        for kind in ("bbox", "segm"):
            if kind not in found:
                continue
            expected = reference(coco, results, kind)
            difference = max(abs(found[kind][f] - e) for f, e in zip(FIGURES, expected))
            worst = max(worst, difference)
            print(f"{name:12} {kind}  {len(results):6} detections  AP {expected[0]:.4f}  difference {difference:.2e}  {seconds:.1f} s")
    print(f"largest difference {worst:.2e}")
    return worst > 1e-6


if __name__ == "__main__":
    sys.exit(main())
