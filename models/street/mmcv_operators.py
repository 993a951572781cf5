"""The compiled operators that mmcv-lite lacks and a Mask R-CNN needs: NMS and RoIAlign, by torchvision.

Import this before mmdet. torchvision's compute the same as mmcv's; RoIAlign with gradients is mmcv's own
`use_torchvision=True`.
"""
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
