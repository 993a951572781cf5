"""Reads mmdetection's configuration files without running them, and takes from one what config.json says.

`read(path)` and `parse(text, folder)` give a dictionary of the file's assignments merged with its `_base_` files. An
expression that is more than literals, dict(), names, `_base_` and arithmetic becomes UNKNOWN, which only matters where a
field that counts is one. `fields(config, stages, classes)` gives config.json's keys and raises Refused for whatever would
make the detector another than the one vitrun runs.
"""
import ast
import operator
import os
import re

OPERATORS = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
             ast.Pow: operator.pow, ast.FloorDiv: operator.floordiv}
STDS = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))
TYPES = {"MaskRCNN": 1, "CascadeRCNN": 3}


class Refused(Exception):
    """What the checkpoint has that the detectors of vitrun do not."""


class _Unknown:
    def __repr__(self):
        return "an expression that is not read"


UNKNOWN = _Unknown()


def _call(node, names):
    """dict(a=1, **b), list(x) or tuple(x)."""
    if isinstance(node.func, ast.Name) and node.func.id == "dict" and not node.args:
        made = {}
        for k in node.keywords:
            value = _value(k.value, names)
            made.update(value if k.arg is None and isinstance(value, dict) else {k.arg: value})
        return made
    if isinstance(node.func, ast.Name) and node.func.id in ("list", "tuple") and len(node.args) == 1 and not node.keywords:
        value = _value(node.args[0], names)
        return list(value) if isinstance(value, (list, tuple)) else UNKNOWN
    return UNKNOWN


def _lookup(value, key):
    try:
        return value[key]
    except (KeyError, IndexError, TypeError):
        return UNKNOWN


def _arithmetic(node, names):
    left, right = _value(node.left, names), _value(node.right, names)
    numbers = all(isinstance(v, (int, float)) for v in (left, right))
    joined = type(left) is type(right) and isinstance(left, (list, tuple, str)) and isinstance(node.op, ast.Add)
    small = not isinstance(node.op, ast.Pow) or (numbers and abs(right) < 64 and abs(left) < 1e4)
    if type(node.op) not in OPERATORS or not (numbers or joined) or not small:
        return UNKNOWN
    try:
        return OPERATORS[type(node.op)](left, right)
    except ArithmeticError:
        return UNKNOWN


def _value(node, names):
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, (ast.List, ast.Tuple)):
        made = [_value(e, names) for e in node.elts]
        return made if isinstance(node, ast.List) else tuple(made)
    if isinstance(node, ast.Dict):
        return {_value(k, names) if k else None: _value(v, names) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.Call):
        return _call(node, names)
    if isinstance(node, ast.Name):
        return names.get(node.id, UNKNOWN)
    if isinstance(node, ast.Attribute):
        return _lookup(_value(node.value, names), node.attr)
    if isinstance(node, ast.Subscript):
        return _lookup(_value(node.value, names), _value(node.slice, names))
    if isinstance(node, ast.BinOp):
        return _arithmetic(node, names)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, names)
        return -value if isinstance(value, (int, float)) else UNKNOWN
    return UNKNOWN


def merge(base, child):
    """A child's dictionaries change the base's key by key, unless they say `_delete_`; a list's items go by number."""
    if isinstance(base, list) and isinstance(child, dict) and child and all(str(k).isdigit() for k in child):
        return [merge(item, child[k]) if (k := str(i)) in child else item for i, item in enumerate(base)]
    if not isinstance(child, dict):
        return child
    child = dict(child)
    if child.pop("_delete_", False) or not isinstance(base, dict):
        return {k: merge({}, v) if isinstance(v, dict) else v for k, v in child.items()}
    return {**base, **{k: merge(base.get(k), v) if isinstance(v, dict) else v for k, v in child.items()}}


def parse(text, folder=None, depth=0):
    if depth > 16:
        raise Refused("the configuration's _base_ files go in a circle")
    text = re.sub(r"""['"]?\{\{\s*(_base_[\w.]*)\s*\}\}['"]?""", r"\1", text)
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as e:
        raise Refused(f"the configuration is no Python that can be read: {e}") from None
    if any(isinstance(n, ast.With) for n in tree.body):
        raise Refused("the configuration imports others (read_base()); give the merged one that training writes beside "
                      "its checkpoints")
    names, base = {}, {}
    for statement in tree.body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name = statement.targets[0].id
        if name == "_base_":
            listed = _value(statement.value, names)
            for file in [listed] if isinstance(listed, str) else listed:
                base = merge(base, read(os.path.join(folder or ".", file), depth + 1))
            names["_base_"] = base
        else:
            names[name] = _value(statement.value, names)
    names.pop("_base_", None)
    return merge(base, names)


def read(path, depth=0):
    try:
        with open(path) as file:
            return parse(file.read(), os.path.dirname(path), depth)
    except (OSError, UnicodeDecodeError) as e:
        raise Refused(f"{path}: {e}") from None


def get(config, path, default=None):
    """The value at a dotted path, or the default."""
    for key in path.split("."):
        if not isinstance(config, dict) or key not in config:
            return default
        config = config[key]
    if config is UNKNOWN:
        raise Refused(f"the configuration's {path} is an expression that is not read; write its value")
    return config


def need(config, path, *allowed, where=""):
    """Refuses another value than the allowed ones; the first is mmdetection's default."""
    value = get(config, path, allowed[0])
    value = list(value) if isinstance(value, tuple) else value
    if value not in allowed:
        raise Refused(f"the configuration has {where}{path}={value!r}; only {' or '.join(map(repr, allowed))} is run")


def heads(value, stages):
    """The configuration of each stage; one for all where it is no list."""
    return list(value) if isinstance(value, (list, tuple)) else [value] * stages


def check_backbone(model):
    need(model, "backbone.type", "SwinTransformer")
    for key, allowed in (("qk_scale", (None,)), ("use_abs_pos_embed", (False,)), ("ape", (False,)), ("in_channels", (3,)),
                         ("patch_size", (4,)), ("strides", ([4, 2, 2, 2],)), ("out_indices", ([0, 1, 2, 3],)),
                         ("norm_cfg.type", ("LN",)), ("act_cfg.type", ("GELU",))):
        need(model, f"backbone.{key}", *allowed)
    need(model, "neck.type", "FPN")
    for key, allowed in (("start_level", (0,)), ("end_level", (-1, 3)), ("add_extra_convs", (False,)), ("num_outs", (5,)),
                         ("upsample_cfg.mode", ("nearest",)), ("norm_cfg", (None,)), ("act_cfg", (None,))):
        need(model, f"neck.{key}", *allowed)


def check_coder(head, path, stds):
    need(head, "bbox_coder.type", "DeltaXYWHBBoxCoder", where=path)
    need(head, "bbox_coder.target_means", [0.0, 0.0, 0.0, 0.0], where=path)
    need(head, "bbox_coder.target_stds", list(stds), where=path)
    for key, allowed in (("clip_border", True), ("add_ctr_clamp", False)):
        need(head, f"bbox_coder.{key}", allowed, where=path)


def check_rpn(model):
    rpn = get(model, "rpn_head", {})
    need(rpn, "type", "RPNHead", where="rpn_head.")
    check_coder(rpn, "rpn_head.", (1.0, 1.0, 1.0, 1.0))
    need(rpn, "loss_cls.use_sigmoid", True, where="rpn_head.")
    for key, allowed in (("type", "AnchorGenerator"), ("center_offset", 0.0), ("centers", None), ("octave_base_scale", None),
                         ("scales_per_octave", None), ("base_sizes", None), ("scale_major", True)):
        need(rpn, f"anchor_generator.{key}", allowed, where="rpn_head.")


def check_rois(heads_of, kind, size):
    extractor = get(heads_of, f"{kind}_roi_extractor", {})
    where = f"roi_head.{kind}_roi_extractor."
    for key, allowed in (("type", ("SingleRoIExtractor",)), ("featmap_strides", ([4, 8, 16, 32],)), ("finest_scale", (56,)),
                         ("roi_layer.type", ("RoIAlign",)), ("roi_layer.output_size", (size, [size, size])),
                         ("roi_layer.sampling_ratio", (0,)), ("roi_layer.aligned", (True,)),
                         ("roi_layer.pool_mode", ("avg",))):
        need(extractor, key, *allowed, where=where)


def check_heads(model, stages):
    roi = get(model, "roi_head", {})
    need(roi, "type", "StandardRoIHead" if stages == 1 else "CascadeRoIHead", where="roi_head.")
    check_rois(roi, "bbox", 7)
    check_rois(roi, "mask", 14)
    for stage, head in enumerate(heads(get(roi, "bbox_head", {}), stages)):
        check_coder(head, f"roi_head.bbox_head[{stage}].", STDS[stage])
        need(head, "loss_cls.type", "CrossEntropyLoss", where=f"roi_head.bbox_head[{stage}].")
        need(head, "loss_cls.use_sigmoid", False, where=f"roi_head.bbox_head[{stage}].")
    for head in heads(get(roi, "mask_head", {}), stages):
        need(head, "type", "FCNMaskHead", where="roi_head.mask_head.")
        need(head, "upsample_cfg.type", "deconv", where="roi_head.mask_head.")
        need(head, "upsample_cfg.scale_factor", 2, where="roi_head.mask_head.")


def steps_of(pipeline):
    """The steps of a test pipeline, those inside mmdetection 2's MultiScaleFlipAug too."""
    for step in pipeline if isinstance(pipeline, (list, tuple)) else ():
        if isinstance(step, dict):
            yield step
            yield from steps_of(step.get("transforms"))


def input_fields(config):
    """input_size, image_mean and image_std of the test pipeline and the preprocessor."""
    model, made = get(config, "model", {}), {}
    pipeline = (get(config, "test_dataloader.dataset.pipeline") or get(config, "data.test.pipeline")
                or get(config, "test_pipeline"))
    steps = {step.get("type"): step for step in steps_of(pipeline)}
    resize = steps.get("Resize", {})
    scale = steps.get("MultiScaleFlipAug", {}).get("img_scale") or resize.get("scale") or resize.get("img_scale")
    if isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(v, int) for v in scale):
        need(resize, "keep_ratio", True, where="test pipeline's Resize ")
        made["input_size"] = {"shortest_edge": min(scale), "longest_edge": max(scale)}
    norm = get(model, "data_preprocessor") or steps.get("Normalize") or get(config, "img_norm_cfg")
    if isinstance(norm, dict) and "mean" in norm:
        need(norm, "bgr_to_rgb" if "bgr_to_rgb" in norm else "to_rgb", True, where="the normalization's ")
        made["image_mean"], made["image_std"] = list(get(norm, "mean")), list(get(norm, "std"))
    divisor = get(model, "data_preprocessor.pad_size_divisor") or steps.get("Pad", {}).get("size_divisor")
    if divisor not in (None, 32):
        raise Refused(f"the configuration pads pictures to a multiple of {divisor}; only 32 is run")
    return made


def threshold_fields(config):
    tests = get(config, "model.test_cfg") or get(config, "test_cfg", {})  # mmdetection 2.8 moved it into the model
    rpn, rcnn = get(tests, "rpn", {}), get(tests, "rcnn", {})
    for name, part in (("rpn", rpn), ("rcnn", rcnn)):
        need(part, "nms.type", "nms", where=f"test_cfg.{name}.")
        need(part, "nms.class_agnostic", False, where=f"test_cfg.{name}.")
    need(rpn, "nms_across_levels", False, where="test_cfg.rpn.")
    need(rcnn, "mask_thr_binary", 0.5, where="test_cfg.rcnn.")
    return {"score_threshold": get(rcnn, "score_thr", 0.05), "nms_threshold": get(rcnn, "nms.iou_threshold", 0.5),
            "max_detections": get(rcnn, "max_per_img", 100),
            "rpn": {"pre_nms": get(rpn, "nms_pre", 1000), "post_nms": get(rpn, "max_per_img", get(rpn, "max_num", 1000)),
                    "nms_threshold": get(rpn, "nms.iou_threshold", get(rpn, "nms_thr", 0.7)),
                    "min_size": get(rpn, "min_bbox_size", 0)}}


def fields(config, stages):
    """config.json's keys but architecture and labels."""
    model = get(config, "model")
    if not isinstance(model, dict):
        raise Refused("the configuration has no model = dict(...)")
    kind = get(model, "type")
    if TYPES.get(kind) != stages:
        raise Refused(f"the configuration's model is a {kind}; the checkpoint has {stages} stage(s) of heads")
    check_backbone(model)
    check_rpn(model)
    check_heads(model, stages)
    anchors = get(model, "rpn_head.anchor_generator", {})
    need(anchors, "strides", [4, 8, 16, 32, 64], where="rpn_head.anchor_generator.")
    return {**input_fields(config), **threshold_fields(config),
            "anchors": {"scales": list(get(anchors, "scales", [8])), "ratios": list(get(anchors, "ratios", [0.5, 1.0, 2.0])),
                        "strides": [4, 8, 16, 32, 64]}}
