"""COCO's figures of the small detector on pictures that it was not trained on."""
import contextlib
import io
import os

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import people_data as data
from mmdet_modules import prepare
from people_nets import LONGEST, SHORTEST, build_detector


def detections(model, image_id, pixels, category_ids):
    """COCO results of one picture, RGB bytes."""
    inputs, samples = prepare(model, pixels, SHORTEST, LONGEST)
    with torch.no_grad():
        found = model.predict(inputs, samples)[0].pred_instances
    results = []
    for (x1, y1, x2, y2), score, label, mask in zip(found.bboxes.tolist(), found.scores.tolist(), found.labels.tolist(),
                                                    found.masks):
        if data.CLASSES[label] in category_ids:
            rle = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
            results.append(dict(image_id=image_id, category_id=category_ids[data.CLASSES[label]], score=score,
                                bbox=[x1, y1, x2 - x1, y2 - y1], segmentation=rle))
    return results


def figures(truth, results, images, categories):
    """{"bbox": [AP, AP50], "segm": [AP, AP50]} in percent."""
    out = {}
    for kind in ("bbox", "segm"):
        if not results:
            out[kind] = [0.0, 0.0]
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            measured = COCOeval(truth, truth.loadRes([dict(r) for r in results]), kind)
            measured.params.imgIds, measured.params.catIds = images, categories
            measured.evaluate()
            measured.accumulate()
            measured.summarize()
        out[kind] = [100 * v for v in measured.stats[:2]]
    return out


def measure(model, root, name, keep):
    folder, annotations = data.SETS[name]
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(os.path.join(root, annotations))
    category_ids = {c["name"]: c["id"] for c in truth.dataset["categories"]}
    images = [i for i in truth.dataset["images"] if keep(i)]
    results = []
    for image in images:
        pixels = cv2.imread(os.path.join(root, folder, image["file_name"]))[..., ::-1]
        results += detections(model, image["id"], pixels, category_ids)
    found = figures(truth, results, [i["id"] for i in images], [category_ids[c] for c in data.CLASSES])
    print(f"{name}, {len(images)} pictures:", ", ".join(
        f"{kind} AP {ap:.1f}, AP50 {ap50:.1f}" for kind, (ap, ap50) in found.items()), flush=True)


def evaluate(root, checkpoint):
    model = build_detector()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    model.eval()
    measure(model, root, "penn_fudan", data.held_out)
    measure(model, root, "coco_val", lambda image: True)
