#!/usr/bin/env python3
"""Make of people.qbin, whose weights have 8 bits, a checkpoint that training can go on from.

    python3 begin_from_qbin.py people.qbin start.pth
    python3 train_people.py detector --data D --begin start.pth --out run --bf16 --rate 2e-4 --minutes 45

The .qbin of models/people is the only place where the weights are. What quantization folded into others is a function of
the same form as the network, so that each tensor has its place in mmdetection's, but for two: a merging of patches has
no bias there, which moves into the norm before it, and an image is normalised there. runtime/files/qbin.h and
kernels/pack.h describe the file.
"""
import math
import re
import struct
import sys

import numpy as np
import torch

import people_data as data
from people_nets import build_detector, config_text

F32, F16, I8, U8, I16, I32, PACKED = range(1, 8)


def read_tensors(path):
    """{name: float64} of a .qbin, codes as what they stand for."""
    file = open(path, "rb").read()
    (at,), (count,) = struct.unpack_from("<Q", file, 32), struct.unpack_from("<I", file, 44)
    raw = {}
    for _ in range(count):
        (length,) = struct.unpack_from("<H", file, at)
        name, at = file[at + 2:at + 2 + length].decode(), at + 2 + length
        kind, bits, rank, _, _, offset, size = struct.unpack_from("<BBBBIQQ", file, at)
        dims = struct.unpack_from(f"<{rank}Q", file, at + 24)
        at += 24 + 8 * rank
        raw[name] = tensor(kind, bits, dims, file[offset:offset + size])
    found = {}
    for name, value in raw.items():
        if name + "_scale" in raw:
            value = (value - raw[name + "_zero"][:, None]) * raw[name + "_scale"][:, None]
        if not name.endswith(("_scale", "_zero", "_sum")):
            found[name] = torch.from_numpy(value)
    return found


def tensor(kind, bits, dims, blob):
    if kind == PACKED:
        if bits != 8:
            sys.exit("begin_from_qbin.py: expected weights of 8 bits")
        n, k = dims
        panels = np.frombuffer(blob, np.int8).reshape(math.ceil(n / 16), math.ceil(k / 32), 8, 16, 4)
        return panels.transpose(0, 3, 1, 2, 4).reshape(16 * math.ceil(n / 16), -1)[:n, :k].astype(np.float64)
    types = {F32: np.float32, F16: np.float16, I8: np.int8, U8: np.uint8, I16: np.int16, I32: np.int32}
    return np.frombuffer(blob, types[kind]).reshape(dims).astype(np.float64)


def unfold_order(t):
    """Columns of a merging, (x, y, channel), in the order of PyTorch's unfold, (channel, y, x)."""
    channels = t.shape[-1] // 4
    return t.reshape(*t.shape[:-1], 2, 2, channels).transpose(-3, -1).reshape(t.shape)


def unfolded(weights):
    """Undoes what the network of mmdetection has no place for."""
    std, mean = weights.pop("image.weight"), weights.pop("image.bias")
    patch = weights["patch_embed.proj.weight"].reshape(-1, 3, 16)
    weights["patch_embed.proj.bias"] += (patch * mean[None, :, None]).sum((1, 2))
    weights["patch_embed.proj.weight"] = patch * std[None, :, None]
    for stage in (1, 2, 3):
        name = f"layers.{stage}.downsample."
        bias = weights.pop(name + "reduction.bias")
        weights[name + "norm.bias"] += torch.linalg.lstsq(weights[name + "reduction.weight"], bias[:, None],
                                                          driver="gelsd").solution[:, 0]
        for part in ("reduction.weight", "norm.weight", "norm.bias"):
            weights[name + part] = unfold_order(weights[name + part])
    up = weights["mask.0.upsample.weight"]
    side = up.shape[1]
    weights["mask.0.upsample.weight"] = up.reshape(2, 2, side, side).permute(3, 2, 0, 1)
    weights["mask.0.upsample.bias"] = (weights.pop("mask.0.upsampled.bias")
                                       + weights.pop("mask.0.upsample.bias").reshape(4, side).mean(0))
    return weights


def name_here(name):
    """mmdetection's name of a tensor as the .qbin has it (models/detect/detector_names.cc)."""
    for theirs, ours in (("backbone.patch_embed.projection", "patch_embed.proj"), ("backbone.", ""), ("stages.", "layers."),
                         ("w_msa.", ""), ("ffn.layers.0.0", "mlp.fc1"), ("ffn.layers.1", "mlp.fc2"),
                         ("lateral_convs", "lateral"), ("fpn_convs", "fpn"), ("rpn_head.rpn_", "rpn."),
                         ("roi_head.bbox_head.shared_fcs", "box.0.fcs"), ("roi_head.bbox_head.fc_", "box.0."),
                         ("roi_head.mask_head.conv_logits", "mask.0.logits"), ("roi_head.mask_head", "mask.0")):
        name = name.replace(theirs, ours)
    name = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) + 1}.downsample", name)
    return re.sub(r"(\d)\.conv\.", r"\1.", name)


def in_shape(value, name, shape):
    """Channels first, as PyTorch's convolutions and the first Linear of the box head have them."""
    if len(shape) == 4 and shape[2:] == (3, 3):
        value = value.reshape(shape[0], 9, shape[1]).transpose(1, 2)
    elif name.endswith("shared_fcs.0.weight"):
        value = value.reshape(shape[0], 49, -1).transpose(1, 2)
    return value.reshape(shape).float().contiguous()


def main():
    source, out = sys.argv[1:]
    weights = unfolded(read_tensors(source))
    state = {name: value if name.endswith("relative_position_index") else in_shape(weights[name_here(name)], name, value.shape)
             for name, value in build_detector().state_dict().items()}
    torch.save(dict(state_dict=state, meta=dict(classes=list(data.CLASSES), cfg=config_text())), out)


main()
