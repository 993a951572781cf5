"""Makes tests/golden/coco: what pycocotools 2.0 makes of small annotated sets, detections and masks.

Run from anywhere: python3 tests/golden/make_coco.py  (NumPy, pycocotools)

masks.json          height, width, polygons, and of pycocotools: counts of their union, area, and overlaps of each with each,
                    [detection][object], of masks that are no crowds and of crowds
boxes.json          boxes, and their overlaps likewise
thresholds.json     the ten thresholds
NAME.instances.json, NAME.results.json, NAME.expected.json   bbox and segm: the twelve figures, the mean of precision over
                    thresholds of each category, and the mean precision over categories at IoU .50 and .75
"""

import contextlib
import io
import json
from pathlib import Path

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval, Params

OUT = Path(__file__).parent / "coco"
OUT.mkdir(exist_ok=True)
rng = np.random.default_rng(7)


def write(name, value):
    (OUT / name).write_text(json.dumps(value, separators=(",", ":")) + "\n")


def blob(height, width, points, reach=0.0):
    """A star-shaped polygon around some place; `reach` of its size may lie outside of the image."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, points))
    radius = rng.uniform(0.1, 0.5) * min(height, width) * rng.uniform(0.5, 1, points)
    x = rng.uniform(-reach, 1 + reach) * width + radius * np.cos(angles)
    y = rng.uniform(-reach, 1 + reach) * height + radius * np.sin(angles)
    if not reach:
        x, y = x.clip(0, width), y.clip(0, height)
    return [float(v) for v in np.stack([x, y], 1).ravel().round(2)]


def text_of(rle):
    return rle["counts"].decode()


def union(polygons, height, width):
    return masks.merge(masks.frPyObjects(polygons, height, width))


def make_masks():
    cases = []
    for height, width in [(1, 1), (1, 9), (7, 5), (30, 40), (61, 47)]:
        polygons = [[blob(height, width, int(rng.integers(3, 12)), reach)] for reach in (0, 0, 0.3, 0.6)]
        polygons.append([blob(height, width, 4), blob(height, width, 9), blob(height, width, 5, 0.2)])
        polygons.append([[0, 0, 0, height, width, height, width, 0]])  # the whole image
        polygons.append([[1, 1, 3, 1, 3, 4, 1, 4, 1, 1]])              # closed, and small
        polygons.append([[2, 2, 2, 2, 2, 2]])                          # a point
        polygons.append([[0.5, 0.5, width - 0.5, 0.5, width - 0.5, height - 0.5, 0.5, height - 0.5]])
        polygons.append([[float(v) for v in rng.uniform(-0.2, 1.2, 16).round(3) * max(height, width)]])  # crosses itself
        rles = [union(p, height, width) for p in polygons]
        cases.append({
            "height": height, "width": width, "polygons": polygons, "counts": [text_of(r) for r in rles],
            "area": [int(a) for a in masks.area(rles)],
            "overlap": masks.iou(rles, rles, [0] * len(rles)).tolist(),
            "crowd_overlap": masks.iou(rles, rles, [1] * len(rles)).tolist()})
    write("masks.json", cases)


def make_boxes():
    boxes = np.abs(rng.normal(20, 15, (12, 4))).round(2).tolist() + [[5, 5, 0, 3], [5, 5, 10, 10], [5, 5, 10, 10], [15, 5, 3, 3]]
    write("boxes.json", {"boxes": boxes, "overlap": masks.iou(boxes, boxes, [0] * len(boxes)).tolist(),
                         "crowd_overlap": masks.iou(boxes, boxes, [1] * len(boxes)).tolist()})


def ground_truth(name, images, categories, crowds, shuffle):
    """Images of several sizes, some without objects; segmentations in all three forms."""
    sizes = [(int(h), int(w)) for h, w in rng.integers(60, 420, (images, 2))]
    data = {"images": [{"id": 3 * i + 5, "height": h, "width": w, "file_name": f"{i}.jpg"} for i, (h, w) in enumerate(sizes)],
            "categories": [{"id": c, "name": f"thing {c}"} for c in categories], "annotations": []}
    for i, (height, width) in enumerate(sizes):
        for _ in range(0 if i % 5 == 4 else int(rng.integers(1, 6))):
            polygons = [blob(height, width, int(rng.integers(3, 9))) for _ in range(int(rng.integers(1, 3)))]
            rle = union(polygons, height, width)
            crowd, form = int(rng.random() < crowds), rng.random()
            bits = masks.decode(rle).ravel(order="F")
            runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], bits, [2]]))))
            runs = [0] * int(bits[0]) + [int(r) for r in runs]
            segmentation = ({"size": [height, width], "counts": runs} if crowd and form < 0.7 or form < 0.1 else
                            {"size": [height, width], "counts": text_of(rle)} if form < 0.3 else polygons)
            data["annotations"].append({
                "id": len(data["annotations"]) + 1, "image_id": 3 * i + 5,
                "category_id": int(rng.choice(categories[:-1])),  # the last one has no object
                "iscrowd": crowd, "area": float(masks.area(rle)) + 0.25, "bbox": masks.toBbox(rle).tolist(),
                "segmentation": segmentation})
    if shuffle:
        for entries in data.values():
            rng.shuffle(entries)
    write(f"{name}.instances.json", data)
    return data


def detections(coco, data, quality, decimals, false):
    results = []

    def add(image, category, bits, box=None):
        rle = masks.encode(np.asfortranarray(bits))
        results.append({"image_id": image, "category_id": category, "score": round(float(rng.random()), decimals),
                        "bbox": masks.toBbox(rle).tolist() if box is None else box,
                        "segmentation": {"size": rle["size"], "counts": text_of(rle)}})

    for ann in data["annotations"]:
        for _ in range(int(rng.integers(0, 3)) + 2 * ann["iscrowd"]):
            shift = rng.integers(-quality, quality + 1, 2)
            box = [float(v) for v in np.abs(np.array(ann["bbox"]) + rng.normal(0, quality, 4)).round(2)]
            add(ann["image_id"], ann["category_id"], np.roll(coco.annToMask(ann), shift, (0, 1)), box)
    for image in data["images"]:
        for _ in range(int(rng.integers(0, false + 1))):
            bits = masks.decode(union([blob(image["height"], image["width"], 4)], image["height"], image["width"]))
            add(image["id"], int(rng.choice([c["id"] for c in data["categories"]])), bits)
    rng.shuffle(results)
    return results


def evaluation(coco, results, kind):
    with contextlib.redirect_stdout(io.StringIO()):
        e = COCOeval(coco, coco.loadRes(json.loads(json.dumps(results))), kind)
        e.evaluate(), e.accumulate(), e.summarize()
    precision = e.eval["precision"][:, :, :, 0, 2]  # [thresholds, recalls, categories]
    there = precision[0, 0] > -1
    return {"figures": e.stats.tolist(), "by_category": precision.mean((0, 1)).tolist(),
            "curves": [precision[t][:, there].mean(1).tolist() for t in (0, 5)]}


def make_set(name, images, categories, crowds=0.0, quality=2, decimals=3, false=2, shuffle=False, change=lambda r: r):
    data = ground_truth(name, images, categories, crowds, shuffle)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(OUT / f"{name}.instances.json")
        results = change(detections(coco, data, quality, decimals, false))
        write(f"{name}.results.json", results)
    kinds = [k for k, key in (("bbox", "bbox"), ("segm", "segmentation")) if key in results[0]]
    write(f"{name}.expected.json", {kind: evaluation(coco, results, kind) for kind in kinds})


def without(key):
    return lambda results: [{k: v for k, v in r.items() if k != key} for r in results]


def crowded(results):
    """One category of one image more than a hundred times."""
    return results + [{**results[0], "score": round(float(rng.random()), 2)} for _ in range(130)]


make_masks()
make_boxes()
write("thresholds.json", Params("bbox").iouThrs.tolist())
make_set("plain", 8, [1, 2, 3, 9])
make_set("crowds", 10, [2, 1, 40], crowds=0.35, quality=4)
make_set("ties", 8, [1, 7, 5], crowds=0.1, quality=3, decimals=1, shuffle=True)
make_set("hundred", 3, [1, 2], quality=1, decimals=2, change=crowded)
make_set("boxes_alone", 6, [1, 2, 3], change=without("segmentation"))
make_set("masks_alone", 6, [1, 2, 3], crowds=0.2, change=without("bbox"))
make_set("unlisted", 5, [1, 2, 3], change=lambda r: r + [{**r[0], "category_id": 77}])
