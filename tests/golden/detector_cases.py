"""The cases of make_detectors.py: sizes and options of each detector, and what the case is about."""
import dataclasses

RPN = dict(pre_nms=1000, post_nms=1000, nms_threshold=0.7, min_size=0)


@dataclasses.dataclass
class Case:
    name: str
    architecture: str
    about: str
    seed: int = 1
    size: tuple = (64, 96)  # of the picture: height, width
    shortest_edge: int = 64
    longest_edge: int = 96
    mean: tuple = (123.675, 116.28, 103.53)
    std: tuple = (58.395, 57.12, 57.375)
    writes_mean: bool = False
    embed: int = 4
    depths: tuple = (1, 2, 2, 1)
    heads: tuple = (1, 1, 2, 4)
    window: int = 4
    mlp_ratio: int = 2
    qkv_bias: bool = True
    patch_norm: bool = True
    positions: tuple = ()  # image size of absolute positions
    channels: int = 8  # FPN
    fc: int = 16
    convs: int = 0  # of the box head, with batch norm
    agnostic: bool = False  # deltas
    mask_agnostic: bool = False
    labels: tuple = ("person", "bicycle", "car")
    scales: tuple = (8,)
    ratios: tuple = (0.5, 1.0, 2.0)
    writes_anchors: bool = False
    rpn: dict = dataclasses.field(default_factory=lambda: dict(RPN))
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    logit_std: float = 3.5
    background: float = 10.0
    finds: int = 8  # at least so many detections; 0: none at all
    names: str = "mmdet"
    parts: bool = False


CASES = [
    Case("mask", "mask_rcnn", "mmdetection's names; nothing to pad or resize", embed=8, depths=(2, 2, 2, 1),
         heads=(1, 2, 2, 4), parts=True),
    Case("cascade", "cascade_mask_rcnn", "mmdetection's names; two FCs, class-agnostic deltas; nothing to pad or resize",
         agnostic=True, parts=True),
]
