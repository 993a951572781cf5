"""Pictures with outlined people, and random views of them."""
import json
import os

import cv2
import numpy as np
from pycocotools import mask as coco_mask

CLASSES = ("person",)
SETS = {  # folder of pictures, annotations
    "penn_fudan": ("penn_fudan/images", "penn_fudan/instances.json"),
    "street": ("street/images", "street/instances.json"),
    "coco_train": ("coco/train2017", "coco/instances_train2017.json"),
    "coco_val": ("coco/val2017", "coco/instances_val2017.json"),
}


def held_out(image):
    """A fifth of Penn-Fudan is never trained on."""
    return image["id"] % 5 == 0


def read_set(root, name):
    """Records {file, height, width, objects}; the pictures of Penn-Fudan's split and of COCO without our classes too."""
    folder, annotations = SETS[name]
    data = json.load(open(os.path.join(root, annotations)))
    class_of = {c["id"]: CLASSES.index(c["name"]) for c in data["categories"] if c["name"] in CLASSES}
    records = {i["id"]: dict(id=i["id"], file=os.path.join(root, folder, i["file_name"]), height=i["height"], width=i["width"],
                             objects=[]) for i in data["images"]}
    for a in data["annotations"]:
        if a["category_id"] in class_of:
            records[a["image_id"]]["objects"].append(
                dict(label=class_of[a["category_id"]], crowd=bool(a["iscrowd"]), segmentation=a["segmentation"]))
    return list(records.values())


def training_records(root):
    records = [r for r in read_set(root, "penn_fudan") if not held_out(r)]
    seen = set()
    for name in ("street", "coco_train"):
        new = [r for r in read_set(root, name) if os.path.basename(r["file"]) not in seen]
        seen.update(os.path.basename(r["file"]) for r in new)
        records += [r for r in new if r["objects"]]
    return records


def bitmap(segmentation, height, width):
    """COCO's polygons or RLE as uint8 [height, width]."""
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    return coco_mask.decode(rle)


class Shrunk:
    """A picture in memory, its short side at most `side`, with its masks as RLE of that size."""

    def __init__(self, record, side):
        pixels = cv2.imread(record["file"])
        scale = min(1.0, side / min(pixels.shape[:2]))
        self.size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))  # width, height
        self.pixels = cv2.resize(pixels, self.size, interpolation=cv2.INTER_AREA)
        self.labels = [o["label"] for o in record["objects"]]
        self.crowds = [o["crowd"] for o in record["objects"]]
        self.rles = []
        for o in record["objects"]:
            full = bitmap(o["segmentation"], record["height"], record["width"])
            small = cv2.resize(full, self.size, interpolation=cv2.INTER_NEAREST)
            self.rles.append(coco_mask.encode(np.asfortranarray(small)))


def box_of(mask):
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def random_matrix(rng, width, height, side):
    """2x3: flip, a zoom between 0.6 and 1.8 of the picture at short side `side`, and a square of side x side out of it."""
    zoom = side / min(width, height) * np.exp(rng.uniform(np.log(0.6), np.log(1.8)))
    stretch = np.exp(rng.uniform(-0.1, 0.1))
    sx, sy = zoom * stretch, zoom / stretch
    tx = rng.uniform(min(0, side - sx * width), max(0, side - sx * width))
    ty = rng.uniform(min(0, side - sy * height), max(0, side - sy * height))
    if rng.random() < 0.5:
        return np.array([[-sx, 0, sx * width + tx], [0, sy, ty]])
    return np.array([[sx, 0, tx], [0, sy, ty]])


def random_colour(rng, pixels):
    """Contrast, brightness and each channel's gain change a little."""
    gain = rng.uniform(0.75, 1.3) * rng.uniform(0.92, 1.08, 3)
    shifted = (pixels.astype(np.float32) - 110) * gain + 110 + rng.uniform(-25, 25)
    return np.clip(shifted, 0, 255).astype(np.uint8)


def random_view(shrunk, rng, side):
    """BGR [side, side, 3], boxes [n, 4], labels [n], masks [n, side, side], crowd boxes [m, 4]."""
    matrix = random_matrix(rng, *shrunk.size, side)
    scale = np.sqrt(abs(np.linalg.det(matrix[:, :2])))
    flags = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    pixels = random_colour(rng, cv2.warpAffine(shrunk.pixels, matrix, (side, side), flags=flags, borderValue=(104, 116, 124)))
    boxes, labels, masks, crowds = [], [], [], []
    for rle, label, crowd in zip(shrunk.rles, shrunk.labels, shrunk.crowds):
        mask = cv2.warpAffine(coco_mask.decode(rle), matrix, (side, side), flags=cv2.INTER_NEAREST)
        area = mask.sum()
        if area < 12:
            continue
        if crowd or area < 0.15 * coco_mask.area(rle) * scale ** 2:  # mostly cut off
            crowds.append(box_of(mask))
            continue
        boxes.append(box_of(mask))
        labels.append(label)
        masks.append(mask)
    return (pixels, np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64),
            np.array(masks, np.uint8).reshape(-1, side, side), np.array(crowds, np.float32).reshape(-1, 4))
