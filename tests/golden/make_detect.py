"""What mmdetection, torchvision, OpenCV and pycocotools make of small numbers: the functions around a detector's networks.

Run from anywhere with the Python of make_detectors.py: python make_detect.py   (writes detect/ beside this file)

Inputs are number() of an index, which the tests compute too; files hold what they name below and the answers.

anchors.txt    scales | ratios | strides | height width a level; then x1 y1 x2 y2 of the first and last anchors
deltas.txt     stds | width height | box | delta | the decoded box (delta2bbox)
nms.txt        boxes groups threshold seed | the kept indices (batched_nms)
levels.txt     box | level (SingleRoIExtractor)
roi_align.txt  height width channels stride bins seed | box | values (torchvision), a line each
sizes.txt      width height shortest longest | scaled width and height (rescale_size)
resize.txt     width height new_width new_height kind crc32 (cv2.resize)
input.txt      width height shortest longest divisor kind | padded width and height | values (DetDataPreprocessor)
rle.txt        height width kind seed | area, COCO's text (pycocotools)
masks.txt      side height width seed | box | area, COCO's text (_do_paste_mask)
proposals.txt  seed width height pre post threshold min_size | boxes; then x1 y1 x2 y2 score each (RPNHead)
detect.txt     one line a case of detect(): its numbers | detections; then x1 y1 x2 y2 score label, COCO's text each
"""
import pathlib
import zlib

import cv2
import numpy as np
import torch
from mmengine.config import ConfigDict
from pycocotools import mask as coco_mask

import detector_models  # noqa: F401  mmcv._ext
from mmcv.image import rescale_size
from mmcv.ops import batched_nms
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads import CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders.delta_xywh_bbox_coder import delta2bbox
from mmdet.models.task_modules.prior_generators import AnchorGenerator
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from make_image import pattern
from torchvision.ops import roi_align

# Equal scores come by index, as they did before PyTorch sorted with AVX-512; torchvision's NMS still sorts so.
torch.Tensor.sort = lambda self, dim=-1, descending=False: torch.sort(self, stable=True, dim=dim, descending=descending)
OUT = pathlib.Path(__file__).parent / "detect"


def numbers(seed, count, first=0):
    """Multiples of 1/512 in [-1, 1), float32."""
    i = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(seed * 1000003)) & 0xFFFFFFFF
    h = (i * 2654435761 + 12345) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = h ^ (h >> 13)
    return (((h >> 8) & 0x3FF).astype(np.float32) / 512 - 1)


def tensor(seed, *shape):
    return torch.from_numpy(numbers(seed, int(np.prod(shape)))).reshape(shape)


def text(values):
    return " ".join("%.9g" % float(v) for v in values)


def write(name, lines):
    (OUT / name).write_text("\n".join(lines) + "\n")


def random_boxes(seed, count, extent):
    """Corners at multiples of extent / 1024, sides up to half the extent."""
    n = tensor(seed, count, 4)
    corner, size = (n[:, :2] + 1) / 2 * extent, (n[:, 2:] + 1) / 4 * extent
    return torch.cat([corner, corner + size], 1)


def make_anchors():
    lines = []
    for scales, ratios, strides in [([8], [0.5, 1, 2], [4, 8, 16, 32, 64]), ([2, 3.5, 5], [0.3, 1.7], [8, 13]),
                                    ([8], [1], [16])]:
        sizes = [(3 + i, 5 + 2 * i) for i in range(len(strides))]
        levels = AnchorGenerator(strides, ratios, scales).grid_priors(sizes, device="cpu")
        shape = " ".join(f"{h} {w}" for h, w in sizes)
        lines.append(f"{text(scales)} | {text(ratios)} | {text(strides)} | {shape}")
        count = len(scales) * len(ratios)
        lines += [text(torch.cat([a[:count], a[-count:]]).flatten()) for a in levels]
    write("anchors.txt", lines)


def make_deltas():
    lines = []
    cases = [((1, 1, 1, 1), (1216, 800)), ((0.1, 0.1, 0.2, 0.2), (640, 427)), ((0.033, 0.033, 0.067, 0.067), (97, 33))]
    for k, (stds, (width, height)) in enumerate(cases):
        boxes = random_boxes(k, 30, 900)
        deltas = tensor(k + 10, 30, 4) * torch.tensor([4, 4, 3, 3]) / torch.tensor(stds) ** 0.5
        deltas[0] = torch.tensor([0, 0, 1e9, -1e9])
        deltas[1] = torch.tensor([-1e30, 1e30, 0, 0])
        deltas[2] = torch.tensor([0, 0, float("inf"), float("-inf")])
        boxes[3, 2:] = boxes[3, :2]
        found = delta2bbox(boxes, deltas, stds=stds, max_shape=(height, width))
        lines += [f"{text(stds)} | {width} {height} | {text(box)} | {text(delta)} | {text(moved)}"
                  for box, delta, moved in zip(boxes, deltas, found)]
    write("deltas.txt", lines)


def make_nms():
    lines = []
    for count, groups, threshold, seed in [(1, 1, 0.5, 1), (40, 1, 0.5, 2), (200, 3, 0.5, 3), (200, 1, 0.25, 4),
                                           (300, 5, 0.7, 5), (100, 1, 0.0, 6), (100, 2, 1.0, 7), (1500, 80, 0.5, 8),
                                           (300, 2, 0.75, 9)]:
        boxes = random_boxes(seed, count, 256)  # multiples of 1/4, so that a group's offset is exact
        scores = (tensor(seed + 100, count) * 32).round() / 32  # many are equal
        ids = torch.arange(count) * 7 % groups
        _, keep = batched_nms(boxes, scores, ids, dict(type="nms", iou_threshold=threshold))
        lines.append(f"{count} {groups} {threshold} {seed} | {' '.join(map(str, keep.tolist()))}")
    write("nms.txt", lines)


def make_levels():
    extractor = SingleRoIExtractor(dict(type="RoIAlign", output_size=7, sampling_ratio=0), 4, [4, 8, 16, 32])
    boxes = random_boxes(31, 40, 1500)
    exact = torch.tensor([[0, 0, s, s] for s in (0, 1, 55.9, 56, 111.9, 112, 223.99, 224, 447.9, 448, 896, 5000)])
    boxes = torch.cat([boxes, exact])
    levels = extractor.map_roi_levels(torch.cat([torch.zeros(len(boxes), 1), boxes], 1), 4)
    write("levels.txt", [f"{text(b)} | {level}" for b, level in zip(boxes, levels)])


def make_roi_align():
    lines = []
    inside = [[10, 12, 60.5, 47.25], [0, 0, 80, 64], [3.3, 4.4, 3.9, 5.1], [70, 50, 80, 64], [5, 5, 5, 20]]
    outside = [[-30, -9, 25, 30], [60, 40, 150, 90], [-200, -200, -100, -100], [-500, -500, 600, 700]]
    for seed, (height, width, channels, stride, bins, boxes) in enumerate([
            (16, 20, 3, 4, 7, inside), (16, 20, 2, 4, 7, outside), (2, 3, 2, 32, 7, inside), (1, 1, 1, 64, 2, inside),
            (16, 20, 1, 4, 14, inside[:3]), (33, 65, 1, 8, 7, [[0, 0, 520, 264], [100, 3, 103, 264], [7, 100, 520, 101.5]])]):
        image = tensor(seed + 200, height * width, channels).T.reshape(1, channels, height, width)
        rois = torch.tensor(boxes, dtype=torch.float32)
        found = roi_align(image, [rois], bins, 1 / stride, 0, aligned=True)  # [n, channels, bins, bins]
        for box, values in zip(rois, found):
            lines.append(f"{height} {width} {channels} {stride} {bins} {seed + 200} | {text(box)} | " +
                         " ".join("%.6g" % v for v in values.permute(1, 2, 0).flatten().tolist()))
    write("roi_align.txt", lines)


def make_sizes():
    sizes = [(1, 1), (640, 480), (480, 640), (1000, 600), (5000, 300), (1333, 800), (500, 375), (333, 500), (12000, 9000),
             (2, 3), (1067, 641), (427, 640), (612, 612)]
    sizes += [(int(37 + 61 * i % 900), int(41 + 97 * i % 700)) for i in range(40)]
    lines = []
    for w, h in sizes:
        for short, long in [(800, 1333), (64, 100), (300, 300)]:
            new_w, new_h = rescale_size((w, h), (long, short))
            if new_w and new_h:
                lines.append(f"{w} {h} {short} {long} | {new_w} {new_h}")
    write("sizes.txt", lines)


def make_resize():
    sizes = [(1, 1, 1, 1), (1, 1, 9, 5), (2, 1, 7, 3), (3, 5, 3, 5), (8, 6, 4, 3), (9, 7, 4, 3), (640, 480, 1067, 800),
             (480, 640, 600, 800), (1000, 700, 500, 350), (333, 500, 888, 1333), (1, 2000, 3, 1333), (2000, 1, 1333, 2),
             (1200, 900, 67, 50), (64, 64, 64, 13), (64, 64, 13, 64), (100, 3, 40, 2)]
    sizes += [tuple(int(1 + (n + 1) * 90) for n in numbers(300 + i, 4)) for i in range(120)]
    lines = []
    for n, (w, h, new_w, new_h) in enumerate(sizes):
        kind = ("noise", "extreme", "smooth")[n % 3]
        resized = cv2.resize(pattern(w, h, kind), (new_w, new_h), interpolation=cv2.INTER_LINEAR)
        lines.append(f"{w} {h} {new_w} {new_h} {kind} {zlib.crc32(resized.tobytes()):08x}")
    write("resize.txt", lines)


def make_input():
    mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    lines = []
    for w, h, short, long, divisor, kind in [(5, 4, 6, 9, 4, "noise"), (3, 7, 2, 50, 3, "smooth"), (4, 4, 4, 4, 1, "extreme")]:
        size = rescale_size((w, h), (long, short))
        resized = torch.from_numpy(cv2.resize(pattern(w, h, kind), size)).permute(2, 0, 1)
        sample = DetDataSample(metainfo=dict(img_shape=size[::-1]))
        preprocessor = DetDataPreprocessor(mean, std, pad_size_divisor=divisor)
        image = preprocessor(dict(inputs=[resized], data_samples=[sample]))["inputs"][0]
        lines.append(f"{w} {h} {short} {long} {divisor} {kind} | {image.shape[2]} {image.shape[1]} | {text(image.flatten())}")
    write("input.txt", lines)


def counts(mask):
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return f"{int(coco_mask.area(rle))} {rle['counts'].decode()}"


def bitmap(kind, height, width, seed):
    """[height, width]: all 0, all 1, noise, or few large runs."""
    if kind in ("0", "1"):
        return np.full((height, width), int(kind))
    n = numbers(seed, height * width).reshape(height, width)
    if kind == "noise":
        return n > 0
    y, x = np.mgrid[0:height, 0:width]
    return (x * 7 + y * 3) // 40 % 3 == 1


def make_rle():
    lines = []
    for n, (height, width) in enumerate([(1, 1), (1, 9), (9, 1), (7, 5), (30, 17), (64, 3), (100, 200), (1000, 90)]):
        for kind in ("0", "1", "noise", "stripes"):
            if kind != "noise" or height * width < 600:
                lines.append(f"{height} {width} {kind} {n} | {counts(bitmap(kind, height, width, n))}")
    write("rle.txt", lines)


def mask_of(seed, side):
    """Probabilities around 1/2, exact in float32: noise that grows from the middle row to the first and last."""
    growth = (2 * torch.arange(side) + 1 - side).abs() / 64
    return 0.53125 + tensor(seed, side, side) * growth[:, None]


def make_masks():
    lines = []
    cases = [(28, 60, 80, [10.5, 7.25, 61, 49.5]), (28, 60, 80, [0, 0, 80, 60]), (28, 60, 80, [30.2, 20.1, 33.9, 55]),
             (28, 60, 80, [79, 59, 80, 60]), (28, 60, 80, [12.1, 13.2, 12.9, 13.9]), (28, 1, 1, [0, 0, 1, 1]),
             (28, 300, 400, [13.37, 5.5, 391.1, 280.9]), (28, 9, 500, [3, 0.25, 490.5, 9]), (14, 100, 100, [-20, 30, 60, 130]),
             (7, 33, 44, [1, 1, 40, 30]), (28, 60, 80, [5.5, 5.5, 33.5, 33.5]), (28, 60, 80, [5, 5, 33, 33])]
    for seed, (side, height, width, box) in enumerate(cases):
        seed = 400 + 2 * seed
        boxes = torch.tensor([box], dtype=torch.float32)
        pasted, (rows, columns) = _do_paste_mask(mask_of(seed, side)[None, None], boxes, height, width)
        whole = np.zeros((height, width))
        whole[rows, columns] = (pasted[0] >= 0.5).numpy()
        lines.append(f"{side} {height} {width} {seed} | {text(box)} | {counts(whole)}")
    write("masks.txt", lines)


STRIDES = [4, 8, 16, 32, 64]
CHANNELS, CLASSES = 4, 3


def maps_of(width, height):
    """The sizes of the levels' maps on an image padded to multiples of 32, and the maps themselves."""
    padded = [-(-side // 32) * 32 for side in (height, width)]
    sizes = [(padded[0] // s, padded[1] // s) for s in STRIDES[:4]]
    sizes.append(tuple((side + 1) // 2 for side in sizes[-1]))
    maps = []
    for level, (h, w) in enumerate(sizes[:4]):
        block = max(32 // STRIDES[level], 1)  # a value a block of 32 pixels
        coarse = tensor(500 + level, -(-h // block), -(-w // block), CHANNELS)
        maps.append(coarse.repeat_interleave(block, 0).repeat_interleave(block, 1)[:h, :w].permute(2, 0, 1)[None])
    return sizes, maps


def rpn_outputs(seed, sizes):
    """Scores [1, 3, H, W] and deltas [1, 12, H, W] of every level, with equal scores among them."""
    scores = [tensor(seed + level, h * w, 3) * 4 for level, (h, w) in enumerate(sizes)]
    deltas = [tensor(seed + 10 + level, h * w, 12) / 2 for level, (h, w) in enumerate(sizes)]
    planes = lambda rows, size: rows.T.reshape(1, -1, *size)
    return [planes(s, size) for s, size in zip(scores, sizes)], [planes(d, size) for d, size in zip(deltas, sizes)]


def proposals_of(seed, sizes, width, height, pre, post, threshold, min_size):
    config = ConfigDict(nms_pre=pre, max_per_img=post, nms=dict(type="nms", iou_threshold=threshold), min_bbox_size=min_size)
    anchors = dict(type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=STRIDES)
    head = RPNHead(in_channels=CHANNELS, anchor_generator=anchors,
                   bbox_coder=dict(type="DeltaXYWHBBoxCoder"), test_cfg=config)
    scores, deltas = rpn_outputs(seed, sizes)
    return head.predict_by_feat(scores, deltas, batch_img_metas=[dict(img_shape=(height, width))], cfg=config)[0]


def make_proposals():
    lines = []
    for case in [(600, 150, 100, 1000, 1000, 0.7, 0), (620, 150, 100, 40, 1000, 0.5, 0), (640, 333, 77, 50, 30, 0.7, 12),
                 (660, 31, 30, 1000, 20, 0.3, 0), (680, 150, 100, 1000, 5, 0.7, 149)]:
        seed, width, height = case[:3]
        found = proposals_of(seed, maps_of(width, height)[0], *case[1:])
        lines.append(" ".join(map(str, case)) + f" | {len(found)}")
        lines += [text([*b, s]) for b, s in zip(found.bboxes, found.scores)][:60]
    write("proposals.txt", lines)


def box_head(rois, stage, columns, seed):
    """Logits and deltas that are small sums of a RoI's means over its upper and lower bins, [n, 2 CHANNELS]."""
    halves = torch.cat([rois[:, :, :3].mean((2, 3)), rois[:, :, 4:].mean((2, 3))], 1)
    return (halves @ tensor(seed + 20 * stage, 2 * CHANNELS, CLASSES + 1) * 6,
            halves @ tensor(seed + 20 * stage + 10, 2 * CHANNELS, columns) * 3)


def mask_head(rois, stage, classes):
    """[n, classes, 28, 28]: a bin's values, each four times, weighed by class and stage."""
    weights = tensor(900 + stage, classes, CHANNELS) * 4
    values = torch.einsum("kc,nchw->nkhw", weights, rois)
    return values.repeat_interleave(2, 2).repeat_interleave(2, 3) + tensor(920 + stage, 28, 28)


def roi_head(stages, agnostic, mask_agnostic, config):
    extractor = lambda bins: dict(type="SingleRoIExtractor",
                                  roi_layer=dict(type="RoIAlign", output_size=bins, sampling_ratio=0),
                                  out_channels=CHANNELS, featmap_strides=STRIDES[:4])
    stds = [(0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067)]
    boxes = [dict(type="Shared2FCBBoxHead", in_channels=CHANNELS, fc_out_channels=2, num_classes=CLASSES,
                  reg_class_agnostic=agnostic, bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_stds=s))
             for s in stds[:stages]]
    masks = dict(type="FCNMaskHead", num_convs=0, in_channels=CHANNELS, num_classes=CLASSES, class_agnostic=mask_agnostic)
    common = dict(bbox_roi_extractor=extractor(7), mask_roi_extractor=extractor(14), test_cfg=config)
    if stages == 1:
        head = StandardRoIHead(bbox_head=boxes[0], mask_head=masks, **common)
        head.bbox_head = torch.nn.ModuleList([head.bbox_head])
        head.mask_head = torch.nn.ModuleList([head.mask_head])
    else:
        head = CascadeRoIHead(stages, [1] * stages, bbox_head=boxes, mask_head=masks, **common)
    columns, classes = (4 if agnostic else 4 * CLASSES), (1 if mask_agnostic else CLASSES)
    for stage in range(stages):
        head.bbox_head[stage].forward = lambda rois, stage=stage: box_head(rois, stage, columns, 700)
        head.mask_head[stage].forward = lambda rois, stage=stage: mask_head(rois, stage, classes)
    if stages == 1:
        head.bbox_head, head.mask_head = head.bbox_head[0], head.mask_head[0]
    return head


def make_detect():
    lines = []
    # seed, image's width and height, shortest and longest edge, stages, agnostic deltas and masks, score threshold, detections
    for case in [(600, 200, 120, 100, 160, 1, 0, 0, 0.05, 30), (620, 75, 160, 128, 200, 3, 0, 0, 0.3, 20),
                 (640, 333, 77, 160, 320, 3, 1, 1, 0.25, 8), (660, 90, 60, 160, 320, 1, 1, 0, 0.6, 100),
                 (680, 90, 60, 160, 320, 1, 0, 1, 0.999, 9)]:
        seed, image_width, image_height, shortest, longest, stages, agnostic, mask_agnostic, threshold, most = case
        width, height = rescale_size((image_width, image_height), (longest, shortest))
        sizes, maps = maps_of(width, height)
        meta = dict(img_shape=(height, width), ori_shape=(image_height, image_width),
                    scale_factor=(width / image_width, height / image_height))
        proposals = proposals_of(seed, sizes, width, height, 200, 300, 0.7, 0)
        config = ConfigDict(score_thr=threshold, nms=dict(type="nms", iou_threshold=0.5), max_per_img=most, mask_thr_binary=0.5)
        sample = InstanceData(bboxes=proposals.bboxes)
        head = roi_head(stages, bool(agnostic), bool(mask_agnostic), config)
        with torch.no_grad():
            found = head.predict_bbox(maps, [meta], [sample], config, rescale=False)
            found = head.predict_mask(maps, [meta], found, rescale=True)[0]
        lines.append(" ".join(map(str, case)) + f" | {len(found)}")
        for box, score, label, mask in zip(found.bboxes, found.scores, found.labels, found.masks):
            lines.append(f"{text([*box, score])} {label} {counts(mask.numpy()).split()[1]}")
        print(case, len(proposals), len(found))
    write("detect.txt", lines)


if __name__ == "__main__":
    OUT.mkdir(exist_ok=True)
    for make in (make_anchors, make_deltas, make_nms, make_levels, make_roi_align, make_sizes, make_resize, make_input,
                 make_rle, make_masks, make_proposals, make_detect):
        make()
