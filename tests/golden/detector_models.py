"""Small random detectors of mmdetection: how they are built, given weights, named and run."""
import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "models/people"))
from mmdet_modules import MODELS, base_config, prepare  # noqa: E402
from mmdet.models.roi_heads.mask_heads import fcn_mask_head  # noqa: E402

torch.set_num_threads(1)
# mmdetection pastes masks in float32 whatever the boxes are.
_paste = fcn_mask_head._do_paste_mask
fcn_mask_head._do_paste_mask = lambda masks, boxes, *args, **kwargs: _paste(masks, boxes.float(), *args, **kwargs)


def box_head(case, head):
    head.update(in_channels=case.channels, fc_out_channels=case.fc, num_classes=len(case.labels),
                reg_class_agnostic=case.agnostic)
    if case.convs:
        head.update(type="ConvFCBBoxHead", num_shared_convs=case.convs, num_shared_fcs=1,
                    conv_out_channels=case.channels, norm_cfg=dict(type="BN"))


def model_config(case):
    """The configuration of mmdetection's base file with a Swin backbone and a case's sizes."""
    model = base_config(case.architecture)
    model.backbone = dict(type="SwinTransformer", embed_dims=case.embed, depths=case.depths, num_heads=case.heads,
                          window_size=case.window, mlp_ratio=case.mlp_ratio, qkv_bias=case.qkv_bias)
    model.data_preprocessor.update(mean=list(case.mean), std=list(case.std))
    model.neck.update(in_channels=[case.embed << i for i in range(4)], out_channels=case.channels)
    model.rpn_head.update(in_channels=case.channels, feat_channels=case.channels)
    model.rpn_head.anchor_generator.update(scales=list(case.scales), ratios=list(case.ratios))
    heads = model.roi_head
    heads.bbox_roi_extractor.out_channels = heads.mask_roi_extractor.out_channels = case.channels
    for head in heads.bbox_head if isinstance(heads.bbox_head, list) else [heads.bbox_head]:
        box_head(case, head)
    heads.mask_head.update(in_channels=case.channels, conv_out_channels=case.channels, num_classes=len(case.labels),
                           class_agnostic=case.mask_agnostic)
    model.test_cfg.rpn.update(nms_pre=case.rpn["pre_nms"], max_per_img=case.rpn["post_nms"],
                              nms=dict(type="nms", iou_threshold=case.rpn["nms_threshold"]),
                              min_bbox_size=case.rpn["min_size"])
    model.test_cfg.rcnn.update(score_thr=case.score_threshold, max_per_img=case.max_detections,
                               nms=dict(type="nms", iou_threshold=case.nms_threshold))
    return model


def build(case):
    return MODELS.build(model_config(case)).double().eval()


def modules_of(head):
    return list(head) if isinstance(head, torch.nn.ModuleList) else [head]


def random_weights(model, seed):
    """Activations stay near 1 from layer to layer; every parameter has a value that matters."""
    g = torch.Generator().manual_seed(seed)

    def noise(p, scale, mean=0.0):
        p.data = mean + scale * torch.randn(p.shape, generator=g, dtype=p.dtype)

    for name, p in model.named_parameters():
        leaf = name.split(".")[-1]
        if leaf == "relative_position_bias_table":
            noise(p, 0.5)
        elif p.dim() == 1:
            noise(p, 0.25 if leaf == "weight" else 0.2, 1.0 if leaf == "weight" else 0.0)
        else:
            fan_in = p.shape[0] if "upsample" in name else p[0].numel()
            noise(p, (1.6 / fan_in) ** 0.5)
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            noise(buffer, 0.3)
        elif name.endswith("running_var"):
            buffer.data = 0.5 + torch.rand(buffer.shape, generator=g, dtype=buffer.dtype)


def spread(module, std, mean):
    """At its next call the module's weights are scaled so that each output has this mean and deviation."""
    def hook(module, inputs, output):
        handle.remove()
        dims = [d for d in range(output.dim()) if d != 1]
        shape = [-1 if d == 1 else 1 for d in range(output.dim())]
        gain = std / output.std(dims).clamp_min(1e-6)
        shift = torch.as_tensor(mean, dtype=output.dtype).expand(output.shape[1]) - gain * output.mean(dims)
        weight, bias = module.weight.data, module.bias.data
        module.weight.data = weight * gain.reshape([-1] + [1] * (weight.dim() - 1))
        module.bias.data = gain * bias + shift
        return gain.reshape(shape) * output + shift.reshape(shape)
    handle = module.register_forward_hook(hook)


def calibrate(model, image, case):
    """Scores and boxes differ from place to place as a trained model's do."""
    spread(model.rpn_head.rpn_cls, 2.0, -1.0)
    spread(model.rpn_head.rpn_reg, 0.4, 0.0)
    for head in modules_of(model.roi_head.bbox_head):
        classes = len(case.labels)
        spread(head.fc_cls, case.logit_std, [0.0] * classes + [case.background])
        spread(head.fc_reg, 1.0, 0.0)
    for head in modules_of(model.roi_head.mask_head):
        spread(head.conv_logits, 3.0, 1.0)
    predict(model, image, case)
    for name, p in [*model.named_parameters(), *model.named_buffers()]:
        if p.dtype.is_floating_point and not name.startswith("data_preprocessor."):  # mean and deviation are no weights
            p.data = p.data.to(torch.float16).to(torch.float64)


def predict(model, image, case, change=lambda x: x):
    """mmdetection's detections: bboxes, scores, labels, masks."""
    inputs, samples = prepare(model, image, case.shortest_edge, case.longest_edge)
    dtype = next(model.parameters()).dtype
    with torch.no_grad():
        return model.predict(change(inputs.to(dtype)), samples)[0].pred_instances


def original_names(state):
    """mmdetection's parameters under the names and in the order of the original Swin detection repository."""
    def order(x):  # [..., 4 C], channel-major with the pixels 00 01 10 11 -> pixel-major with 00 10 01 11
        x = x.reshape(*x.shape[:-1], -1, 4).transpose(-1, -2)
        return x[..., [0, 2, 1, 3], :].reshape(*x.shape[:-2], -1)

    renamed = {}
    for name, value in state.items():
        if "downsample" in name:
            value = order(value)
        if name.startswith("backbone."):
            for new, old in (("layers.", "stages."), ("attn.", "attn.w_msa."), ("mlp.fc1", "ffn.layers.0.0"),
                             ("mlp.fc2", "ffn.layers.1"), ("patch_embed.proj", "patch_embed.projection")):
                name = name.replace(old, new)
        renamed[name] = value.contiguous()
    return renamed
