"""Tiny seeded models of every family and naming, with an input and the logits PyTorch gives.

    pip install torch timm transformers safetensors
    python3 make_models.py        # writes models/ beside this file

Made with torch 2.13, timm 1.0.31 and transformers 5.23 (hf_deit_one, hf_msn, SwinV2, base models: 5.24). For each NAME:
    NAME.safetensors    weights            NAME.json         config.json as the library saves it
    NAME.input.npy      [2, 3, H, W] f32   NAME.logits.npy   [2, 10] f32
                        or of a base model NAME.embedding.npy [2, D] and NAME.features.npy [2, tokens, D]
Models whose configuration is called config.json lie in a folder NAME/ (model.safetensors).
dtypes/dtypes.safetensors holds 16-bit numbers and what numpy and torch make of them;
archs.txt, for each of timm's architectures that we know: parameters, image side, crop, mean, std.
timm and transformers are independent implementations of the same models; f32 on the CPU throughout.
"""
import json
import os
import shutil
import tempfile
import zlib

import numpy as np
import torch

# A torchvision that was built for another torch does not load its operators; timm and transformers
# only import it.
_stub = torch.library.Library("torchvision", "DEF")
for _op in ("nms", "qnms"):
    _stub.define(f"{_op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from timm.models._hub import save_config_for_hf  # noqa: E402
from timm.models.swin_transformer import checkpoint_filter_fn  # noqa: E402

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "models")
CLASSES = 10
VIT = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2)
SWIN = dict(embed_dim=8, mlp_ratio=2.0)


def randomize(model):
    """Every parameter gets values of a size that matters, so that none can be dropped unnoticed."""
    for name, p in model.named_parameters():
        g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(p.shape, generator=g)
        if "norm" in name and name.endswith("weight") or name.endswith("gamma"):
            p.data = 1 + 0.25 * noise
        elif name.endswith("logit_scale"):  # the second head's is above log 100
            p.data = 2 + 0.5 * noise
            p.data[1:2] = 5
        elif p.dim() == 1:
            p.data = 0.2 * noise
        elif "table" in name or "pos" in name or "token" in name:
            p.data = 0.5 * noise
        else:
            p.data = noise * (1.2 / p[0].numel() ** 0.5)
    return model.eval()


def images(height, width):
    g = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randn(2, 3, height, width, generator=g)


def weights_path(name):
    os.makedirs(os.path.dirname(os.path.join(OUT, name)), exist_ok=True)
    return os.path.join(OUT, name + ".safetensors")


def outputs(model, x):
    """The logits, or of a model without a head the embedding and the features."""
    if hasattr(model, "forward_features") and model.num_classes == 0:
        return {"embedding": model(x), "features": model.forward_features(x).flatten(1, 2)}
    y = model(x)
    if hasattr(y, "pooler_output"):
        return {"embedding": y.pooler_output, "features": y.last_hidden_state}
    logits = getattr(y, "logits", y)
    assert logits.shape == (2, CLASSES) and logits.std() > 0.1
    return {"logits": logits}


def save(name, state, model, height, width):
    """Weights under the names of `state`; the input and the outputs of `model`."""
    save_file({k: v.contiguous() for k, v in state.items()}, weights_path(name))
    x = images(height, width)
    os.chmod(weights_path(name), 0o644)
    np.save(os.path.join(OUT, name + ".input.npy"), x.numpy())
    with torch.no_grad():
        for output, value in outputs(model, x).items():
            np.save(os.path.join(OUT, f"{name}.{output}.npy"), value.float().numpy())


def timm_model(arch, **args):
    return randomize(timm.create_model(arch, **{"num_classes": CLASSES, **args}))


def save_timm(name, model, state=None):
    height, width = model.patch_embed.img_size
    save(name, state or model.state_dict(), model, height, width)
    save_config_for_hf(model, os.path.join(OUT, name + ".json"))


def save_rounded(name, model, dtype):
    """16-bit weights; the logits are those of the rounded weights in f32."""
    state = {k: v.to(dtype) for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    save_timm(name, model, state)


def save_old_swin(name, model):
    """timm before 0.9, and Microsoft: downsample where a stage ends, plain head, stored buffers."""
    state = {}
    for key, value in model.state_dict().items():
        part = key.split(".")
        if part[2:3] == ["downsample"]:
            part[1] = str(int(part[1]) - 1)
        state[".".join(part).replace("head.fc.", "head.")] = value
    for key, module in model.named_modules():
        if key.endswith(".attn"):
            state[key + ".relative_position_index"] = module.relative_position_index
            mask = model.get_submodule(key[:-5]).attn_mask
            if mask is not None:
                state[key[:-5] + ".attn_mask"] = mask
    back = checkpoint_filter_fn(state, model)
    model.load_state_dict(back)  # timm reads these names as the same model
    save_timm(name, model, state)


def save_transformers(name, model, height, width, config=None):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        save(name, load_file(os.path.join(folder, "model.safetensors")), model, height, width)
        shutil.copy(os.path.join(folder, "config.json"), os.path.join(OUT, config or name + ".json"))


def make_timm():
    vit = timm_model("vit_tiny_patch16_224", **VIT)
    save_timm("vit", vit)
    save_rounded("vit_f16", vit, torch.float16)
    save_rounded("vit_bf16", timm_model("vit_tiny_patch16_224", **VIT), torch.bfloat16)
    save_timm("vit_oblong", timm_model("vit_tiny_patch16_224", img_size=(24, 16), patch_size=8,
                                       embed_dim=16, depth=2, num_heads=4, qkv_bias=False))
    save_timm("deit_distilled", timm_model("deit_tiny_distilled_patch16_224", **VIT,
                                           mlp_ratio=2.0))
    save_timm("deit3", timm_model("deit3_small_patch16_224", **VIT, mlp_ratio=2.0))

    # A side that is no multiple of the patch: the convolution leaves the last rows and columns out.
    save_timm("vit_remainder", timm_model("vit_tiny_patch16_224", **dict(VIT, img_size=(18, 19))))
    # The mean of the patches in place of the class token, without a norm of its own.
    save_timm("vit_avg", timm_model("vit_tiny_patch16_224", **VIT, global_pool="avg",
                                    fc_norm=False))

    swin = "swin_tiny_patch4_window7_224"
    # Maps 8 and 4 with window 4: larger than, and equal to the window.
    larger = dict(SWIN, img_size=16, patch_size=2, window_size=4, depths=(2, 2), num_heads=(1, 2))
    save_timm("swin", timm_model(swin, **larger))
    save_old_swin("swin_old", timm_model(swin, **larger))
    # Maps 4 and 2: equal to, and smaller than the window.
    save_timm("swin_small_map", timm_model(swin, **dict(larger, img_size=8)))
    # Maps 7x5, 4x3, 2x2 with window 3: padded windows, odd maps in patch merging, one axis shifted.
    save_timm("swin_padded", timm_model(swin, **dict(
        SWIN, img_size=(28, 20), window_size=3, depths=(2, 2, 1), num_heads=(2, 2, 4))))


def make_timm_swin():
    # Maps 8, 4 and 2 with window 4, of which the first two stages' were 6 and 3 in pretraining.
    v2 = dict(SWIN, img_size=16, patch_size=2, window_size=4, depths=(2, 2, 1), num_heads=(1, 2, 4))
    save_timm("swinv2", timm_model("swinv2_tiny_window8_256", **v2, pretrained_window_sizes=(6, 3, 0)))
    save_timm("swinv2_padded", timm_model("swinv2_tiny_window8_256", qkv_bias=False, **dict(
        v2, img_size=(28, 20), patch_size=4, window_size=3)))
    # A window for each stage, as Swin S3 has.
    swin = "swin_tiny_patch4_window7_224"
    larger = dict(SWIN, img_size=16, patch_size=2, depths=(2, 2), num_heads=(1, 2))
    save_timm("swin_s3", timm_model(swin, **larger, window_size=((2, 2), (4, 4))))
    save_timm("swin_base", timm_model(swin, **larger, window_size=4, num_classes=0))


def make_transformers_swin():
    swin = dict(image_size=20, patch_size=2, embed_dim=8, depths=[2, 2], num_heads=[1, 2], window_size=3,
                mlp_ratio=2.0)
    save_transformers("hf_swinv2", randomize(transformers.Swinv2ForImageClassification(
        transformers.Swinv2Config(**dict(swin, image_size=16, window_size=4),
                                  pretrained_window_sizes=[6, 3], num_labels=CLASSES))), 16, 16)
    # Maps 10 and 5 with window 3: transformers pads them before it shifts them.
    save_transformers("hf_swinv2_base", randomize(transformers.Swinv2Model(
        transformers.Swinv2Config(**swin, layer_norm_eps=1e-3))), 20, 20)
    save_transformers("hf_swin_ape", randomize(transformers.SwinModel(
        transformers.SwinConfig(**swin, layer_norm_eps=1e-3, use_absolute_embeddings=True))), 20, 20)
    # A map of 4x8 with window 4: no shift along either axis.
    save_transformers("hf_swin_oblong", randomize(transformers.SwinForImageClassification(
        transformers.SwinConfig(**dict(swin, image_size=[8, 16], window_size=4, depths=[2],
                                       num_heads=[2]), num_labels=CLASSES))), 8, 16)


def make_transformers():
    vit = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=32,
               image_size=16, patch_size=4)
    labels = dict(id2label={i: f"class {i}" for i in range(CLASSES)})
    save_transformers("hf_vit", randomize(transformers.ViTForImageClassification(
        transformers.ViTConfig(**vit, **labels))), 16, 16)
    save_transformers("hf_deit/model", randomize(
        transformers.DeiTForImageClassificationWithTeacher(
            transformers.DeiTConfig(**vit, num_labels=CLASSES))), 16, 16, "hf_deit/config.json")
    # The distillation token is carried and has no head; an image of 18 leaves a remainder too.
    save_transformers("hf_deit_one", randomize(transformers.DeiTForImageClassification(
        transformers.DeiTConfig(**dict(vit, image_size=18), num_labels=CLASSES))), 18, 18)
    save_transformers("hf_msn", randomize(transformers.ViTMSNForImageClassification(
        transformers.ViTMSNConfig(**vit, num_labels=CLASSES))), 16, 16)
    with open(os.path.join(OUT, "hf_deit", "preprocessor_config.json"), "w") as file:
        json.dump({"crop_size": 16, "do_center_crop": True, "do_normalize": True,
                   "do_resize": True, "image_mean": [0.485, 0.456, 0.406],
                   "image_std": [0.229, 0.224, 0.225], "resample": 3, "size": 18}, file, indent=2)
    save_transformers("hf_swin", randomize(transformers.SwinForImageClassification(
        transformers.SwinConfig(image_size=16, patch_size=2, embed_dim=8, depths=[2, 2],
                                num_heads=[1, 2], window_size=4, mlp_ratio=2.0,
                                num_labels=CLASSES))), 16, 16)


def make_dtypes():
    bits = np.random.default_rng(1).integers(0, 1 << 16, 450).astype(np.uint16)
    # zeros, smallest and largest subnormal and normal, one, and their neighbours
    edges = [0x0000, 0x8000, 0x0001, 0x83ff, 0x0400, 0x7bff, 0xfbff, 0x3c00, 0x3c01, 0x0080, 0x7f7f]
    bits = np.concatenate([np.array(edges, np.uint16), bits])
    half = bits.view(np.float16)
    half = half[np.isfinite(half)]
    brain = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16)
    brain = brain[torch.isfinite(brain)]
    save_file({"half": torch.from_numpy(half), "half_as_f32": torch.from_numpy(half.astype("f4")),
               "brain": brain, "brain_as_f32": brain.float(),
               "index": torch.arange(4)}, weights_path("dtypes/dtypes"))


def make_archs():
    lines = []
    # The graph of SwinV2 has other parameters than its file: a table for the MLP of positions, a bias of k, and a factor for
    # each column of q and k in place of one for each head.
    def computed(attn):
        if not hasattr(attn, "cpb_mlp"):
            return 0
        height, width = attn.window_size
        replaced = attn.logit_scale.numel() + sum(p.numel() for p in attn.cpb_mlp.parameters())
        return (2 * height - 1) * (2 * width - 1) * attn.num_heads + 3 * attn.dim - replaced

    sizes = ("tiny", "small", "base", "large")
    names = [f"{family}_{size}{variant}_{tail}" for family in ("vit", "deit", "deit3", "swin")
             for size in sizes for variant in ("", "_distilled")
             for tail in ("patch32_224", "patch32_384", "patch16_224", "patch16_384", "patch8_224",
                          "patch4_window7_224", "patch4_window12_384")]
    names += [f"swin_s3_{size}_224" for size in sizes]
    names += [f"swinv2_{size}_window{tail}" for size in sizes
              for tail in ("8_256", "16_256", "12_192", "12to16_192to256", "12to24_192to384")]
    for name in filter(timm.is_model, names):
        model = timm.create_model(name, num_classes=1000, device="meta")
        count = sum(p.numel() for p in model.parameters()) + sum(map(computed, model.modules()))
        cfg = model.pretrained_cfg
        lines.append(f"{name} {count} {cfg['input_size'][1]} {cfg['crop_pct']} {cfg['mean'][0]} "
                     f"{cfg['std'][0]}\n")
    with open(os.path.join(OUT, "archs.txt"), "w") as file:
        file.writelines(lines)


if __name__ == "__main__":
    make_dtypes()
    make_archs()
    make_timm()
    make_timm_swin()
    make_transformers()
    make_transformers_swin()
