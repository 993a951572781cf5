#!/usr/bin/env python3
"""Make of a checkpoint of mmdetection the two files that vitrun and vitquant read.

    python3 convert_detector.py mask_rcnn_swin-t.pth mask_rcnn_swin_t/
    python3 convert_detector.py epoch_12.pth street/ --config my_config.py --labels person,bicycle,car
    vitrun --model mask_rcnn_swin_t/model.safetensors photo.jpg

It needs PyTorch (pip install torch) and nothing else: no mmdetection, no mmcv, no CUDA. The checkpoint is read as data
(weights_only), and a configuration is read, never run. It writes OUT/model.safetensors and OUT/config.json.

Detectors: Mask R-CNN and Cascade Mask R-CNN with a Swin backbone and an FPN, of mmdetection 2 or 3 or of the original
Swin repository. Sizes, thresholds, anchors and labels are those of --config, otherwise those of the configuration that
the checkpoint itself carries, otherwise mmdetection's defaults, which is then said. Anything else is refused with its
reason, and nothing is written.
"""
import argparse
import json
import os
import re
import struct
import sys

import mmdet_config
from mmdet_config import Refused

try:
    import torch
except ImportError:
    sys.exit("convert_detector.py needs PyTorch: pip install torch")

DROPPED = re.compile(r"num_batches_tracked$|relative_position_index$|attn_mask$|^data_preprocessor\.|^ema_")
BLOCK = (r"(norm[12]\.(weight|bias)|attn\.(w_msa\.)?((qkv|proj)\.(weight|bias)|relative_position_bias_table)|"
         r"mlp\.fc[12]\.(weight|bias)|ffn\.layers\.(0\.0|1)\.(weight|bias))")
HEAD = r"roi_head\.%s_head\.(\d+\.)?"
KNOWN = [re.compile(pattern + "$") for pattern in (
    r"backbone\.patch_embed\.(proj(ection)?|norm)\.(weight|bias)",
    r"backbone\.(stages|layers)\.[0-3]\.blocks\.\d+\." + BLOCK,
    r"backbone\.(stages|layers)\.[0-2]\.downsample\.(norm\.(weight|bias)|reduction\.weight)",
    r"backbone\.norm[0-3]\.(weight|bias)",
    r"neck\.(lateral|fpn)_convs\.[0-3]\.conv\.(weight|bias)",
    r"rpn_head\.rpn_(conv|cls|reg)\.(weight|bias)",
    HEAD % "bbox" + r"(shared_convs\.\d+\.(conv\.(weight|bias)|bn\.(weight|bias|running_mean|running_var))|"
                    r"shared_fcs\.\d+\.(weight|bias)|fc_(cls|reg)\.(weight|bias))",
    HEAD % "mask" + r"(convs\.\d+\.conv|upsample|conv_logits)\.(weight|bias)")]
# Patterns of tensor names, and what a model that has such a tensor is instead.
OTHERS = (
    (r"^backbone\.(layer1|conv1|stem|bn1)\.", "its backbone is a ResNet or a ResNeXt, no Swin"),
    (r"^backbone\.(downsample_layers|stages\.\d\.\d+\.(depthwise_conv|gamma))", "its backbone is a ConvNeXt, no Swin"),
    (r"^backbone\.(blocks|pos_embed|cls_token)", "its backbone is a plain ViT, no Swin"),
    (r"logit_scale|cpb_mlp", "its backbone is a Swin V2"),
    (r"absolute_pos_embed", "its Swin has absolute positions (use_abs_pos_embed, ape), which no released detector has"),
    (r"^(query_|decoder\.|encoder\.|panoptic_head|bbox_head\.cls_branches)", "it is a DETR or a MaskFormer"),
    (r"^(bbox_head|mask_head)\.", "it has one stage (RetinaNet, FCOS, ATSS and the like), no RoI heads"),
    (r"^neck\.(downsample_convs|pafpn_convs|0\.|1\.)", "its neck is no plain FPN"),
    (r"^neck\.fpn_convs\.[4-9]\.", "its FPN has extra convolutions (add_extra_convs)"),
    (r"^rpn_head\.rpn_conv\.\d", "its RPN has more than one convolution"),
    (r"semantic_head|mask_head\.\d\.conv_res", "it is a Hybrid Task Cascade"),
    (r"mask_iou_head", "it is a Mask Scoring R-CNN"),
    (r"point_head|coarse", "it is a PointRend"),
    (r"conv_offset", "it has deformable convolutions"),
    (r"\.gn\.", "it has group norms"),
    (r"roi_head\.bbox_head\.(\d+\.)?(cls|reg)_(convs|fcs)", "its box head has branches of their own for classes and boxes"),
)
COCO = """person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,parking meter,bench,
bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,tie,suitcase,frisbee,skis,snowboard,
sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,
banana,apple,sandwich,orange,broccoli,carrot,hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,
laptop,mouse,remote,keyboard,cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,
hair drier,toothbrush""".replace("\n", "").split(",")
DTYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}


def say(text):
    print(f"convert_detector.py: {text}", file=sys.stderr)


class _Ignored:
    """Stands for the training log that mmengine saves beside the weights."""

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        pass


def allow_logs():
    """Lets weights_only read mmengine's training checkpoints; the objects are thrown away."""
    names = ["mmengine.logging.history_buffer.HistoryBuffer", "numpy._core.multiarray._reconstruct",
             "numpy.core.multiarray._reconstruct", "numpy._core.multiarray.scalar", "numpy.core.multiarray.scalar",
             "numpy.ndarray", "numpy.dtype", "builtins.getattr"]
    names += [f"numpy.dtypes.{kind}DType" for kind in ("Float64", "Float32", "Int64", "Int32", "Bool")]
    torch.serialization.add_safe_globals([(type(name, (_Ignored,), {}), name) for name in names])


def load(path):
    try:
        allow_logs()
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Refused("there is no such file") from None
    except Exception as e:  # torch raises many kinds for a broken file
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(e))
        raise Refused(f"it holds {found.group(1)}, which is neither a tensor nor plain data, and was not loaded" if found
                      else "no checkpoint of PyTorch, or a damaged one") from None


def tensors_of(checkpoint):
    """{name: tensor} without prefixes of wrappers and without what inference ignores."""
    for key in ("state_dict", "model", "ema_state_dict"):
        if isinstance(checkpoint, dict) and isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
    if not isinstance(checkpoint, dict):
        raise Refused("the file holds no dictionary of tensors")
    state = {k: v for k, v in checkpoint.items() if isinstance(k, str) and isinstance(v, torch.Tensor)}
    for prefix in ("module.", "model.", "ema_model.", "ema_", "module."):
        if state and all(k.startswith(prefix) or k == "steps" for k in state):
            state = {k.removeprefix(prefix): v for k, v in state.items() if k != "steps"}
    state = {k: v for k, v in state.items() if not DROPPED.search(k)}
    if not state:
        raise Refused("the file holds no tensors")
    return state


def check_tensors(state):
    for pattern, reason in OTHERS:
        name = next((k for k in state if re.search(pattern, k)), None)
        if name:
            raise Refused(f"{reason} (tensor {name})")
    if not any(k.startswith("backbone.patch_embed.") for k in state):
        raise Refused(f"its backbone is no Swin (no tensor backbone.patch_embed.*; the first is {next(iter(state))})")
    if not any(k.startswith("roi_head.bbox_head.") for k in state):
        raise Refused("it has no box head (no tensor roi_head.bbox_head.*): a backbone or a classifier alone")
    if not any(k.startswith("roi_head.mask_head.") for k in state):
        raise Refused("it has no mask head (no tensor roi_head.mask_head.*): a detector of boxes alone")
    for name, value in state.items():
        if not any(pattern.match(name) for pattern in KNOWN):
            raise Refused(f"tensor {name} belongs to no part of a Swin Mask R-CNN")
        if not torch.isfinite(value).all():
            raise Refused(f"tensor {name} has numbers that are not finite")


def tensor(state, *names):
    found = next((state[name] for name in names if name in state), None)
    if found is None:
        raise Refused(f"tensor {' or '.join(names)} is missing")
    return found


def stages_of(state):
    """1 of a Mask R-CNN, 3 of a cascade; every part of each stage is there."""
    numbers = {m.group(1) for k in state if (m := re.match(HEAD % "bbox", k))}
    if numbers != {None} and numbers != {"0.", "1.", "2."}:
        raise Refused(f"it has {len(numbers)} stages of box heads; 1 or 3 are run")
    for number in sorted(n or "" for n in numbers):
        for part in ("bbox_head.%sfc_cls", "bbox_head.%sfc_reg", "mask_head.%sconv_logits", "mask_head.%supsample"):
            tensor(state, f"roi_head.{part % number}.weight")
    return len(numbers)


def check_shapes(state):
    """Classes; parts whose shapes tell that the model is another."""
    patch = tensor(state, "backbone.patch_embed.projection.weight", "backbone.patch_embed.proj.weight")
    if list(patch.shape[1:]) != [3, 4, 4]:
        raise Refused(f"backbone.patch_embed: patches of {list(patch.shape[1:])}; [3, 4, 4] is run")
    for level in range(4):
        for name in (f"neck.lateral_convs.{level}.conv.weight", f"neck.fpn_convs.{level}.conv.weight",
                     f"backbone.norm{level}.weight"):
            tensor(state, name)
    anchors, deltas = tensor(state, "rpn_head.rpn_cls.weight").shape[0], tensor(state, "rpn_head.rpn_reg.weight").shape[0]
    if deltas != 4 * anchors:
        raise Refused(f"rpn_head.rpn_reg has {deltas} outputs, rpn_cls {anchors}: 4 for each anchor are expected")
    classes = tensor(state, "roi_head.bbox_head.fc_cls.weight", "roi_head.bbox_head.0.fc_cls.weight").shape[0] - 1
    for name, value in state.items():
        if name.endswith("fc_cls.weight") and value.shape[0] != classes + 1:
            raise Refused(f"{name} has {value.shape[0]} outputs, another stage {classes + 1}")
        if name.endswith("fc_reg.weight") and value.shape[0] not in (4, 4 * classes):
            raise Refused(f"{name} has {value.shape[0]} outputs; 4 or {4 * classes} are expected of {classes} classes")
        if name.endswith("conv_logits.weight") and value.shape[0] not in (1, classes):
            raise Refused(f"{name} has {value.shape[0]} outputs; 1 or {classes} are expected")
    return classes, anchors


def own_config(checkpoint):
    """The text of the configuration in the checkpoint's meta; None if there is none."""
    meta = checkpoint.get("meta") if isinstance(checkpoint, dict) else None
    text = meta.get("cfg") or meta.get("config") if isinstance(meta, dict) else None
    return text if isinstance(text, str) and "model" in text else None


def labels_of(checkpoint, classes, given):
    """Names of the classes: --labels, the checkpoint's meta, COCO's if there are 80; None if nothing tells."""
    meta = checkpoint.get("meta") if isinstance(checkpoint, dict) else None
    meta = meta if isinstance(meta, dict) else {}
    data = meta.get("dataset_meta") if isinstance(meta.get("dataset_meta"), dict) else {}
    names = given or data.get("classes") or data.get("CLASSES") or meta.get("CLASSES") or meta.get("classes")
    if names:
        names = [names] if isinstance(names, str) else list(names)
        if len(names) != classes:
            raise Refused(f"{len(names)} labels for {classes} classes: {', '.join(map(str, names[:5]))}…; give --labels")
        return names
    if classes == 80:
        say("nothing names the 80 classes; they are taken for COCO's (--labels says otherwise)")
        return COCO
    say(f"nothing names the {classes} classes; config.json has no labels (--labels gives them)")
    return None


def config_json(checkpoint, state, args):
    classes, anchors = check_shapes(state)
    stages = stages_of(state)
    made = {"architecture": "mask_rcnn" if stages == 1 else "cascade_mask_rcnn"}
    text = own_config(checkpoint)
    if args.config:
        made.update(mmdet_config.fields(mmdet_config.read(args.config), stages))
    elif text:
        made.update(mmdet_config.fields(mmdet_config.parse(text), stages))
    else:
        say("no configuration in the checkpoint and no --config: sizes, thresholds and anchors are mmdetection's defaults")
    if (args.config or text) and "input_size" not in made:
        say("the configuration does not tell the size of the input: short side 800, long side at most 1333")
    expected = len(made["anchors"]["scales"]) * len(made["anchors"]["ratios"]) if "anchors" in made else 3
    if anchors != expected:
        raise Refused(f"rpn_head.rpn_cls has {anchors} anchors, {'the configuration' if 'anchors' in made else 'a default'} "
                      f"{expected}; --config tells their scales and ratios")
    labels = labels_of(checkpoint, classes, [n.strip() for n in args.labels.split(",")] if args.labels else None)
    return {**made, **({"labels": labels} if labels else {})}


def write_safetensors(path, state):
    """F32, F16 and BF16 as they are, anything else as F32."""
    header, blobs, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(state):
        value = state[name].contiguous()
        value = value if value.dtype in DTYPES else value.float()
        blob = bytes(value.flatten().view(torch.uint8).numpy())
        header[name] = {"dtype": DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(blobs)


def convert(args):
    checkpoint = load(args.checkpoint)
    state = tensors_of(checkpoint)
    check_tensors(state)
    config = config_json(checkpoint, state, args)
    os.makedirs(args.out, exist_ok=True)
    write_safetensors(os.path.join(args.out, "model.safetensors"), state)
    with open(os.path.join(args.out, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
        file.write("\n")
    size = config.get("input_size", {"shortest_edge": 800, "longest_edge": 1333})
    print(f"{args.out}: {config['architecture']}, {sum(v.numel() for v in state.values()):,} parameters, "
          f"{len(config['labels']) if 'labels' in config else 'unnamed'} classes, "
          f"short side {size['shortest_edge']}, long side at most {size['longest_edge']}")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="FILE.pth")
    parser.add_argument("out", help="folder for model.safetensors and config.json")
    parser.add_argument("--config", help="mmdetection's configuration, FILE.py; its _base_ files beside it are read too")
    parser.add_argument("--labels", help="names of the classes, separated by commas")
    args = parser.parse_args(argv)
    try:
        convert(args)
    except (Refused, OSError) as e:
        say(f"{args.checkpoint}: {e}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
