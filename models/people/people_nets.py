"""The small Swin Mask R-CNN of models/people, of mmdetection's modules, and its backbone as a classifier."""
import logging

import torch

from mmdet_modules import MODELS, Config, base_config
from people_data import CLASSES

logging.disable(logging.WARNING)  # mmengine would list every parameter
EMBED, DEPTHS, HEADS = 32, (2, 2, 6, 2), (1, 2, 4, 8)
CHANNELS, FC = 64, 256
SHORTEST, LONGEST = 256, 448
BACKBONE = dict(type="SwinTransformer", embed_dims=EMBED, depths=DEPTHS, num_heads=HEADS, window_size=7, drop_path_rate=0.05)


def detector_config():
    model = base_config("mask_rcnn")
    model.backbone = BACKBONE
    model.neck.update(in_channels=[EMBED << i for i in range(4)], out_channels=CHANNELS)
    model.rpn_head.update(in_channels=CHANNELS, feat_channels=CHANNELS)
    heads = model.roi_head
    for extractor in (heads.bbox_roi_extractor, heads.mask_roi_extractor):
        extractor.out_channels = CHANNELS
        extractor.roi_layer.use_torchvision = True
    heads.bbox_head.update(in_channels=CHANNELS, fc_out_channels=FC, num_classes=len(CLASSES))
    heads.mask_head.update(in_channels=CHANNELS, conv_out_channels=CHANNELS, num_classes=len(CLASSES))
    train = model.train_cfg
    train.rpn.assigner.ignore_iof_thr = train.rcnn.assigner.ignore_iof_thr = 0.5  # crowds
    train.rpn_proposal.update(nms_pre=500, max_per_img=300)
    train.rcnn.sampler.num = 96
    return model


def config_text():
    """The configuration as mmengine writes it into a checkpoint; convert_detector.py reads it there."""
    resize = dict(type="Resize", scale=(LONGEST, SHORTEST), keep_ratio=True)
    return Config(dict(model=detector_config(), test_pipeline=[resize])).pretty_text


def floats(value):
    if isinstance(value, (tuple, list)):
        return type(value)(floats(v) for v in value)
    return value.float()


def in_bfloat16(module):
    """The module's forward computes in bfloat16 where that is safe, and returns float32."""
    forward = module.forward

    def mixed(*args):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return floats(forward(*args))
    module.forward = mixed


def build_detector(bfloat16=False):
    """Random weights; boxes, losses and RoIAlign are float32 in any case."""
    model = MODELS.build(detector_config())
    model.init_weights()
    if bfloat16:
        for module in (model.backbone, model.neck, model.rpn_head, model.roi_head.bbox_head, model.roi_head.mask_head):
            in_bfloat16(module)
    return model


class Classifier(torch.nn.Module):
    """The backbone, the mean of its last map, and a Linear."""

    def __init__(self, classes, bfloat16=False):
        super().__init__()
        self.backbone = MODELS.build(BACKBONE)
        self.backbone.init_weights()
        if bfloat16:
            in_bfloat16(self.backbone)
        self.head = torch.nn.Linear(EMBED << 3, classes)

    def forward(self, images):
        return self.head(self.backbone(images)[-1].mean((2, 3)))
