"""The cases of make_detectors.py: sizes and options of each detector, and what the case is about."""
import dataclasses
import random

NOTHING = dict(finds=0, channels=4, fc=8, depths=(1, 1, 1, 1))
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
    depths: tuple = (1, 1, 2, 1)
    heads: tuple = (1, 1, 2, 4)
    window: int = 4
    mlp_ratio: int = 2
    qkv_bias: bool = True
    channels: int = 6  # FPN
    fc: int = 12
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
    background: float = 11.5
    adapts: bool = False  # background, from seed to seed
    finds: int = 7  # at least so many detections; 0: none at all
    names: str = "mmdet"
    parts: bool = False


CASES = [
    Case("mask", "mask_rcnn", "mmdetection's names; nothing to pad or resize", embed=8, depths=(2, 2, 2, 1),
         heads=(1, 2, 2, 4), channels=8, fc=16, background=10.0, parts=True),
    Case("cascade", "cascade_mask_rcnn", "mmdetection's names; two FCs, class-agnostic deltas; nothing to pad or resize",
         depths=(1, 2, 2, 1), channels=8, fc=16, agnostic=True, background=9.0, parts=True),
    Case("mask_enlarged", "mask_rcnn", "61x83 enlarged to 79 on the short side; odd maps, window 7, MLP ratio 4", size=(61, 83),
         shortest_edge=79, longest_edge=120, window=7, mlp_ratio=4, depths=(2, 1, 1, 1),
         rpn=dict(RPN, post_nms=120), background=13.0),
    Case("mask_shrunk", "mask_rcnn", "130x117 shrunk to 66 on the short side; original names; odd maps", size=(130, 117),
         shortest_edge=66, longest_edge=100, window=7, names="original", depths=(1, 2, 1, 1)),
    Case("mask_oblong", "mask_rcnn", "47x128 shrunk until the long side is 101; no bias of q, k and v", size=(47, 128),
         shortest_edge=64, longest_edge=101, qkv_bias=False),
    Case("mask_anchors", "mask_rcnn", "two scales and two ratios of anchors, one class, deltas and masks of no class",
         size=(70, 75), agnostic=True, mask_agnostic=True, labels=("pedestrian",), scales=(4, 9), ratios=(1.0, 2.5),
         background=10.5, writes_anchors=True, heads=(2, 1, 4, 8)),
    Case("mask_limits", "mask_rcnn", "every threshold and limit of config.json, mean and deviation", size=(90, 77),
         shortest_edge=77, longest_edge=128, mean=(127.5, 120.0, 110.0), std=(64.0, 60.0, 56.0), writes_mean=True,
         rpn=dict(pre_nms=120, post_nms=60, nms_threshold=0.6, min_size=7), score_threshold=0.15, nms_threshold=0.3,
         max_detections=7, background=5.0, finds=7, labels=("a", "b", "c", "d", "e")),
    Case("mask_tiny", "mask_rcnn", "a picture of 3x5 enlarged to 64x96", size=(3, 5), finds=3),
    Case("mask_no_proposals", "mask_rcnn", "no box of the RPN is large enough", size=(64, 64),
         rpn=dict(RPN, min_size=200), **NOTHING),
    Case("cascade_conv", "cascade_mask_rcnn", "original names; four convolutions with batch norms and an FC, deltas of "
         "each class; 66x95 shrunk", size=(66, 95), shortest_edge=61, longest_edge=96, convs=4, names="original", window=7,
         labels=("person", "bicycle", "car", "motorcycle"), background=8.5),
    Case("cascade_conv_agnostic", "cascade_mask_rcnn", "mmdetection's names; two convolutions with batch norms and an FC, "
         "class-agnostic deltas; 57x40 enlarged", size=(57, 40), shortest_edge=64, longest_edge=97, convs=2, agnostic=True,
         background=8.5),
    Case("cascade_classes", "cascade_mask_rcnn", "original names; two FCs, deltas of each class; narrow, 118x33",
         size=(118, 33), shortest_edge=33, longest_edge=130, names="original", background=8.5),
    Case("cascade_none", "cascade_mask_rcnn", "no score above the threshold", size=(50, 43), shortest_edge=50,
         agnostic=True, background=40.0, **NOTHING),
]


def draw(seed):
    """A case that is none of the above, for tests/checks/check_detectors --random."""
    r = random.Random(seed)
    shortest = r.randint(32, 96)
    labels = tuple(f"class{i}" for i in range(r.choice((1, 2, 3, 6))))
    cascade = r.random() < 0.4
    return Case(
        f"random_{seed}", "cascade_mask_rcnn" if cascade else "mask_rcnn", "drawn", seed=1000 * seed + 1,
        size=(r.randint(8, 150), r.randint(8, 150)), shortest_edge=shortest, longest_edge=r.randint(shortest, 160),
        embed=r.choice((4, 8, 12)), depths=tuple(r.choice((1, 2, 3)) for _ in range(4)),
        heads=r.choice(((1, 2, 4, 8), (2, 2, 4, 4))),
        window=r.choice((3, 4, 7, 12)), mlp_ratio=r.choice((1, 2, 4)), qkv_bias=r.random() < 0.7,
        channels=r.choice((4, 6, 8, 16)), fc=r.choice((8, 12, 20)), convs=r.choice((0, 0, 1, 4)), agnostic=r.random() < 0.5,
        mask_agnostic=r.random() < 0.2, labels=labels, scales=r.choice(((8,), (4,), (4, 8))), writes_anchors=True,
        ratios=r.choice(((0.5, 1.0, 2.0), (1.0,), (0.33, 3.0))),
        rpn=dict(pre_nms=r.choice((100, 1000)), post_nms=r.choice((50, 1000)), nms_threshold=r.choice((0.5, 0.7)),
                 min_size=r.choice((0, 0, 4))),
        nms_threshold=r.choice((0.3, 0.5, 0.6)), max_detections=r.choice((10, 100)), finds=4, adapts=True,
        names=r.choice(("mmdet", "original")))
