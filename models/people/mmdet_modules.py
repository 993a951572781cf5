"""mmdetection with mmcv-lite, which has no compiled operators: its models, and pictures prepared for them.

NMS and RoIAlign, which a Mask R-CNN needs, are torchvision's; they compute the same as mmcv's. RoIAlign with
gradients is mmcv's own `use_torchvision=True`.
"""
import importlib.util
import pathlib
import sys
import types

import torchvision


class _Operators(types.ModuleType):
    """mmcv._ext: any other operator exists, since mmcv asks for their names, and fails when called."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise NotImplementedError(f"mmcv._ext.{name}")
        return missing

    @staticmethod
    def nms(boxes, scores, iou_threshold, offset):
        assert offset == 0
        return torchvision.ops.nms(boxes, scores, iou_threshold)

    @staticmethod
    def roi_align_forward(input, rois, output, argmax_y, argmax_x, aligned_height, aligned_width, spatial_scale,
                          sampling_ratio, pool_mode, aligned):
        assert pool_mode == 1  # average
        output.copy_(torchvision.ops.roi_align(input, rois, (aligned_height, aligned_width), spatial_scale,
                                               sampling_ratio, aligned))


sys.modules["mmcv._ext"] = _Operators("mmcv._ext")

from mmdet.datasets import transforms  # noqa: E402, F401
from mmdet.models import detectors  # noqa: E402, F401
from mmdet.registry import MODELS  # noqa: E402, F401
from mmengine.config import Config  # noqa: E402
from mmengine.dataset import Compose  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

DefaultScope.get_instance("vitrun", scope_name="mmdet")
_BASE = pathlib.Path(importlib.util.find_spec("mmdet").origin).parent / ".mim/configs/_base_/models"
_FILES = {"mask_rcnn": "mask-rcnn_r50_fpn.py", "cascade_mask_rcnn": "cascade-mask-rcnn_r50_fpn.py"}


def base_config(architecture):
    """mmdetection's own configuration of the architecture, with a ResNet."""
    return Config.fromfile(_BASE / _FILES[architecture]).model


def prepare(model, image, shortest_edge, longest_edge):
    """The input [1, 3, H, W] and the data sample, as mmdetection's test pipeline makes them of RGB bytes."""
    steps = [dict(type="Resize", scale=(longest_edge, shortest_edge), keep_ratio=True),
             dict(type="PackDetInputs", meta_keys=("ori_shape", "img_shape", "scale_factor"))]
    bgr = image[..., ::-1].copy()
    packed = Compose(steps)(dict(img=bgr, img_shape=bgr.shape[:2], ori_shape=bgr.shape[:2]))
    data = model.data_preprocessor(dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]]))
    return data["inputs"], data["data_samples"]
