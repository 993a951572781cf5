"""Small random Mask R-CNNs and Cascade Mask R-CNNs with Swin, and what mmdetection says of a picture.

    python3 -m venv mmdet                      # Python 3.11
    mmdet/bin/pip install torch torchvision mmcv-lite==2.1.0 mmengine-lite==0.10.7 pycocotools \\
        opencv-python-headless safetensors pillow scipy shapely terminaltables tqdm matplotlib six
    mmdet/bin/pip install --no-deps mmdet==3.3.0
    mmdet/bin/python make_detectors.py [PATTERN...]     # writes detectors/ beside this file

Made with torch 2.14, torchvision 0.29 and OpenCV 5.0; no operator of mmcv is compiled (models/people/mmdet_modules.py).
detectors/list.txt has a line for each case, which begins with its folder; a folder holds model.safetensors
(float32), config.json, image.png and expected.json, as `vitrun --json image.png` writes it. Of two cases there
are also parts/*.npy: of "mask" input [1, 3, H, W]; map_2.npy..map_6.npy, scores_L.npy and deltas_L.npy [H W, ...]; the
proposals in input pixels and their scores; of the first RoIs and each stage: box_roi_S [n, 4], box_features_0
[n, 49, C], box_logits_S and box_deltas_S; of the first detections mask_roi [n, 4] in input pixels, mask_features
[n, 196, C] and mask_logits_S [n, 784, classes]; gradient [H W, C] at the patch embedding, of the mean logit of all
detections. mmdetection computes in float64. A seed is taken only if the
detections stay when the picture, the thresholds and the precision change a little, so that float32 in any order of
operations finds the same.
With PATTERNs only the folders that fit one are made, and the list is written whole.
"""
import dataclasses
import fnmatch
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from safetensors.torch import save_file
from torchvision.ops import box_iou, roi_align

import detector_models as lib
from detector_cases import CASES

OUT = pathlib.Path(__file__).parent / "detectors"
ROIS = 8
MASKS = 2


def picture(case):
    """Smooth blobs of random colours over a gradient, uint8 [H, W, 3]."""
    height, width = case.size
    g = np.random.default_rng(case.seed)
    y, x = np.mgrid[0:height, 0:width]
    pixels = np.stack([g.uniform(60, 190) + g.uniform(-60, 60) * x / width + g.uniform(-60, 60) * y / height
                       for _ in range(3)], -1)
    for _ in range(10):
        cy, cx = g.uniform(0, height), g.uniform(0, width)
        sy, sx = g.uniform(4, 0.25 * max(height, 24)), g.uniform(4, 0.25 * max(width, 24))
        blob = 1 / (1 + (((y - cy) / sy) ** 2 + ((x - cx) / sx) ** 2) ** 4)
        pixels += blob[..., None] * (g.uniform(0, 255, 3) - pixels)
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def mask_iou(a, b):
    """[n, m]; two masks without a pixel are equal."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    union = a.sum(1)[:, None] + b.sum(1)[None] - a @ b.T
    return torch.where(union == 0, 1.0, a @ b.T / union.clamp_min(1))


def same(a, b):
    """Whether the detections are the same ones but for rounding."""
    if len(a.scores) != len(b.scores) or len(a.scores) == 0:
        return len(a.scores) == len(b.scores)
    fits = (box_iou(a.bboxes.double(), b.bboxes.double()) > 0.99) & (a.labels[:, None] == b.labels[None])
    fits &= (a.scores.double()[:, None] - b.scores.double()[None]).abs() < 1e-3
    fits &= mask_iou(a.masks, b.masks) > 0.98
    return bool((fits.sum(0) == 1).all() and (fits.sum(1) == 1).all())


def moved_thresholds(model):
    """Changes of one threshold of the model each: the places where they stand and the values tried."""
    rpn, rcnn = model.test_cfg.rpn, model.test_cfg.rcnn
    for step in (-1e-3, 1e-3):
        yield rpn.nms, "iou_threshold", rpn.nms.iou_threshold + step
        yield rcnn.nms, "iou_threshold", rcnn.nms.iou_threshold + step
        yield rcnn, "score_thr", rcnn.score_thr + 2 * step


def is_stable(model, image, case, found):
    for seed in range(4):
        g = torch.Generator().manual_seed(seed)
        noisy = lib.predict(model, image, case, lambda x: x + 1e-5 * torch.randn(x.shape, generator=g, dtype=x.dtype))
        if not same(found, noisy):
            return False
    for place, key, value in moved_thresholds(model):
        before, place[key] = place[key], value
        moved = lib.predict(model, image, case)
        place[key] = before
        if not same(found, moved):
            return False
    single = lib.predict(model.float(), image, case)
    model.double()
    return same(found, single)


def is_rich(case, found):
    """Enough detections to mean something: several classes, low and high scores, masks neither empty nor full."""
    if not case.finds:
        return len(found.scores) == 0
    scores, fill = found.scores, found.masks.double().mean((1, 2))
    return (50 >= len(scores) >= case.finds and len(found.labels.unique()) >= min(2, len(case.labels))
            and scores.max() > 0.65 and (fill > 0.005).double().mean() > 0.7)


def make_model(case):
    """The first seed's model whose detections are rich and stable; the background's score may adapt to their number."""
    image = picture(case)
    for seed in range(case.seed, case.seed + 600):
        model = lib.build(case)
        lib.random_weights(model, seed)
        lib.calibrate(model, image, case)
        found = lib.predict(model, image, case)
        rich = is_rich(case, found)
        if rich and is_stable(model, image, case, found):
            print(f"{case.name}: seed {seed}, {len(found.scores)} detections, scores", *found.scores.numpy().round(2))
            return model, image, found
        why = "not stable" if rich else "not rich"
        print(f"{case.name}: seed {seed}, {len(found.scores)} detections, {why}", file=sys.stderr)
        if case.adapts:
            step = 1 if len(found.scores) > 40 else -1 if len(found.scores) < case.finds else 0
            case = dataclasses.replace(case, background=case.background + step)
    raise SystemExit(f"{case.name}: no seed fits")


def config_json(case):
    config = {"architecture": case.architecture,
              "input_size": {"shortest_edge": case.shortest_edge, "longest_edge": case.longest_edge}}
    if case.writes_mean:
        config.update(image_mean=list(case.mean), image_std=list(case.std))
    config.update(labels=list(case.labels), score_threshold=case.score_threshold, nms_threshold=case.nms_threshold,
                  max_detections=case.max_detections, rpn=dict(case.rpn))
    if case.writes_anchors:
        config["anchors"] = {"scales": list(case.scales), "ratios": list(case.ratios), "strides": [4, 8, 16, 32, 64]}
    return config


def detections_json(case, image, found):
    detections = []
    for box, score, label, mask in zip(found.bboxes.tolist(), found.scores.tolist(), found.labels.tolist(), found.masks):
        rle = coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
        detections.append({"box": [round(v, 4) for v in box], "score": round(score, 6), "class": label,
                           "label": case.labels[label], "mask": {"size": rle["size"], "counts": rle["counts"].decode()}})
    return {"image": "image.png", "width": image.shape[1], "height": image.shape[0], "detections": detections}


def rows(value):
    """[1, C, H, W] -> [H W, C]; [n, C, H, W] -> [n, H W, C]."""
    value = value.flatten(2).transpose(1, 2)
    return value[0] if value.shape[0] == 1 else value


class Parts:
    """What passes between the networks of a model while it predicts."""

    def __init__(self, model):
        self.values, self.stage, self.mask_stage = {}, 0, 0
        heads = model.roi_head
        model.neck.register_forward_hook(lambda m, i, maps: self.maps(maps))
        model.rpn_head.register_forward_hook(lambda m, i, out: self.rpn(*out))
        for extractor, name in ((heads.bbox_roi_extractor, "box"), (heads.mask_roi_extractor, "mask")):
            for module in lib.modules_of(extractor):
                module.register_forward_hook(lambda m, i, out, name=name: self.features(name, i[1], out))
        for head in lib.modules_of(heads.bbox_head):
            head.register_forward_hook(lambda m, i, out: self.boxes(*out))
        for head in lib.modules_of(heads.mask_head):
            head.register_forward_hook(lambda m, i, out: self.masks(out))
        predict = model.rpn_head.predict
        model.rpn_head.predict = lambda *a, **k: self.proposals(predict(*a, **k))

    def maps(self, maps):
        for level, value in enumerate(maps, 2):
            self.values[f"map_{level}"] = rows(value)

    def rpn(self, scores, deltas):
        for level, (score, delta) in enumerate(zip(scores, deltas), 2):
            self.values[f"scores_{level}"], self.values[f"deltas_{level}"] = rows(score), rows(delta)

    def proposals(self, results):
        self.values["proposals"], self.values["proposal_scores"] = results[0].bboxes, results[0].scores
        return results

    def features(self, name, rois, out):
        if name == "box":
            self.values[f"box_roi_{self.stage}"] = rois[:ROIS, 1:]
            self.values.setdefault("box_features_0", rows(out[:ROIS]))
        else:
            self.values["mask_roi"], self.values["mask_features"] = rois[:MASKS, 1:], rows(out[:MASKS])

    def boxes(self, logits, deltas):
        self.values[f"box_logits_{self.stage}"], self.values[f"box_deltas_{self.stage}"] = logits[:ROIS], deltas[:ROIS]
        self.stage += 1

    def masks(self, logits):
        self.values[f"mask_logits_{self.mask_stage}"] = rows(logits[:MASKS])
        self.mask_stage += 1


def of_all_boxes(model, image, case):
    """The detections, and by stage the RoIs in input pixels and the logits of all proposals."""
    rois, logits, handles = [], [], []
    for extractor in lib.modules_of(model.roi_head.bbox_roi_extractor):
        handles.append(extractor.register_forward_hook(lambda m, i, out: rois.append(i[1][:, 1:])))
    for head in lib.modules_of(model.roi_head.bbox_head):
        handles.append(head.register_forward_hook(lambda m, i, out: logits.append(out[0])))
    found = lib.predict(model, image, case)
    for handle in handles:
        handle.remove()
    return found, rois, logits


def rows_of(found, logits):
    """The proposal that each detection comes from, which its score tells."""
    scores = (sum(logits) / len(logits)).softmax(-1)
    return [int((scores[:, label] - score).abs().argmin()) for label, score in zip(found.labels, found.scores)]


def gradient(model, image, case):
    """[H W, C]: of the mean logit of all detections, at the output of the patch embedding's convolution. RoIs are constants."""
    found, rois, logits = of_all_boxes(model, image, case)
    embedding = []

    def cut(module, inputs, out):
        embedding.append(out.detach().requires_grad_())
        return embedding[0]
    handle = model.backbone.patch_embed.projection.register_forward_hook(cut)
    maps = model.extract_feat(lib.prepare(model, image, case.shortest_edge, case.longest_edge)[0].double())
    handle.remove()
    total = 0
    for row, label in zip(rows_of(found, logits), found.labels):
        for stage, head in enumerate(lib.modules_of(model.roi_head.bbox_head)):
            x1, y1, x2, y2 = box = rois[stage][row]
            level = int(torch.floor(torch.log2(((x2 - x1) * (y2 - y1)).sqrt() / 56 + 1e-6)).clamp(0, 3))
            features = roi_align(maps[level], [box[None]], 7, 1 / (4 << level), aligned=True)
            total = total + head(features)[0][0, label] / len(rois)
    (total / len(found.labels)).backward()
    return rows(embedding[0].grad)


def write_parts(folder, model, image, case):
    parts = Parts(model)
    if case.name == "mask":
        parts.values["input"] = lib.prepare(model, image, case.shortest_edge, case.longest_edge)[0]
    lib.predict(model, image, case)
    values = dict(parts.values)  # the hooks stay, and see what follows
    values["gradient"] = gradient(model, image, case)
    (folder / "parts").mkdir()
    for name, value in values.items():
        np.save(folder / "parts" / f"{name}.npy", np.ascontiguousarray(value.numpy().astype(np.float32)))


def weights(model, case):
    """float32, under the case's names; "mask" keeps the integers that a checkpoint has too."""
    state = {name: value.float() if value.dtype == torch.float64 else value for name, value in model.state_dict().items()
             if case.name == "mask" or "relative_position_index" not in name}
    return lib.original_names(state) if case.names == "original" else state


def write_case(case, out=OUT):
    model, image, found = make_model(case)
    folder = out / case.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    save_file(weights(model, case), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)
    (folder / "config.json").write_text(json.dumps(config_json(case), indent=1) + "\n")
    Image.fromarray(image).save(folder / "image.png", optimize=True)
    (folder / "expected.json").write_text(json.dumps(detections_json(case, image, found), indent=1) + "\n")
    if case.parts:
        write_parts(folder, model, image, case)


def main():
    patterns = sys.argv[1:] or ["*"]
    OUT.mkdir(exist_ok=True)
    for case in CASES:
        if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns):
            write_case(case)
    lines = [f"{case.name} {case.architecture} {case.about}\n" for case in CASES]
    (OUT / "list.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
