"""The models of make_families.py: a line each."""
import dataclasses
from collections.abc import Callable

import library_models as lib


@dataclasses.dataclass
class Case:
    name: str            # of the folder
    make: Callable       # () -> the model, with random parameters
    size: tuple = (16, 16)
    config: dict = None  # open_clip's model configuration
    text: bool = False   # the text tower's outputs too
    word: str = ""       # which a refusal says
    after: Callable = lambda folder: None         # changes files of the folder
    resize: Callable = lambda model: model        # the model for images of `size`


VIT = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2)
THIN = dict(VIT, mlp_ratio=2.0)
BARE = dict(num_classes=0)
HF = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=16,
          patch_size=4)
LABELS = dict(num_labels=lib.CLASSES)


def timm_case(name, arch, **args):
    size = args.get("img_size", 16)
    size = size if isinstance(size, tuple) else (size, size)
    return Case("timm_" + name, lambda: lib.make_timm(arch, **args), size)


def hf_case(name, cls, config=None, text=False, after=None, **args):
    size = args.get("image_size", 16)
    return Case("hf_" + name, lambda: lib.make_transformers(cls, config, **args), (size, size), text=text,
                after=after or (lambda folder: None))


def towers(config, **args):
    """A vision and a text tower as the configuration of a CLIP or SigLIP has them."""
    vision = {k: v for k, v in HF.items()}
    vision.update(args.pop("vision", {}))
    text = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, vocab_size=64,
                max_position_embeddings=12, bos_token_id=62, eos_token_id=63, pad_token_id=1)
    return dict(vision_config=vision, text_config=text, **args)


FIRST = [
    # CLIP, SigLIP
    hf_case("clip", "CLIPModel", text=True, **towers("clip", projection_dim=12)),
    hf_case("clip_gelu", "CLIPModel", text=True, **towers("clip", projection_dim=16, vision=dict(hidden_act="gelu"))),
    hf_case("clip_vision", "CLIPVisionModel", **HF),
    hf_case("clip_projection", "CLIPVisionModelWithProjection", **HF, projection_dim=12),
    hf_case("clip_classifier", "CLIPForImageClassification", **towers("clip", projection_dim=12, **LABELS)),
    hf_case("siglip", "SiglipModel", **towers("siglip")),
    hf_case("siglip_vision", "SiglipVisionModel", **HF),
    hf_case("siglip_classifier", "SiglipForImageClassification", **towers("siglip", **LABELS)),
    # DINOv2, DINOv3
    hf_case("dinov2", "Dinov2Model", **HF, mlp_ratio=2),
    hf_case("dinov2_classifier", "Dinov2ForImageClassification", **HF, mlp_ratio=2, **LABELS),
    hf_case("dinov2_swiglu", "Dinov2Model", **HF, mlp_ratio=4, use_swiglu_ffn=True),
    hf_case("dinov2_reg", "Dinov2WithRegistersModel", **HF, mlp_ratio=2),
    hf_case("dinov2_reg_classifier", "Dinov2WithRegistersForImageClassification", **HF, mlp_ratio=2, **LABELS,
            num_register_tokens=3),
    hf_case("dinov3", "DINOv3ViTModel", **dict(HF, hidden_size=24), num_register_tokens=4),
    hf_case("dinov3_gated", "DINOv3ViTModel", **dict(HF, hidden_size=24), num_register_tokens=4, use_gated_mlp=True,
            hidden_act="silu"),
    timm_case("dinov2", "vit_small_patch14_dinov2", **THIN, **BARE),
    timm_case("dinov2_head", "vit_base_patch14_dinov2", **THIN),
    timm_case("dinov2_reg4", "vit_small_patch14_reg4_dinov2", **THIN, **BARE),
    timm_case("dinov2_giant", "vit_giant_patch14_dinov2", **dict(VIT, embed_dim=24), **BARE),
    timm_case("dinov2_giant_reg4", "vit_giant_patch14_reg4_dinov2", **dict(VIT, embed_dim=24)),
    timm_case("dinov3", "vit_small_patch16_dinov3", **dict(THIN, embed_dim=24), **BARE),
    timm_case("dinov3_token", "vit_base_patch16_dinov3", **dict(THIN, embed_dim=24), global_pool="token"),
    timm_case("dinov3_qkvb", "vit_small_patch16_dinov3_qkvb", **dict(THIN, embed_dim=24), **BARE),
    timm_case("dinov3_plus", "vit_small_plus_patch16_dinov3", **dict(THIN, embed_dim=24), **BARE),
    timm_case("dinov3_plus_qkvb", "vit_huge_plus_patch16_dinov3_qkvb", **dict(THIN, embed_dim=24)),
    # BEiT, EVA
    timm_case("beit", "beit_base_patch16_224", **THIN),
    timm_case("beit_headless", "beit_base_patch16_224", **THIN, **BARE),
    timm_case("beitv2", "beitv2_base_patch16_224", **THIN),
    hf_case("beit", "BeitModel", **HF, use_relative_position_bias=True),
    hf_case("beit_classifier", "BeitForImageClassification", **HF, use_relative_position_bias=True, **LABELS),
    timm_case("eva02", "eva02_tiny_patch14_224", **dict(VIT, embed_dim=24)),
    timm_case("eva02_headless", "eva02_small_patch14_336", **dict(VIT, embed_dim=24), **BARE),
    timm_case("eva02_base", "eva02_base_patch14_448", **dict(VIT, embed_dim=24)),
    timm_case("eva02_clip", "eva02_base_patch16_clip_224", **dict(VIT, embed_dim=24)),
    timm_case("eva_clip", "eva_giant_patch14_clip_224", **VIT),
    timm_case("eva_large", "eva_large_patch14_196", **THIN),
    # plain ViT
    timm_case("vit", "vit_tiny_patch16_224", **THIN),
    timm_case("vit_headless", "vit_tiny_patch16_224", **THIN, **BARE),
    timm_case("vit_avg_fc_norm", "vit_tiny_patch16_224", **THIN, global_pool="avg"),
    timm_case("vit_gap", "vit_base_patch16_gap_224", **THIN),
    timm_case("vit_clip", "vit_base_patch32_clip_224", **THIN),
    timm_case("vit_clip_quickgelu", "vit_base_patch32_clip_quickgelu_224", **THIN, **BARE),
    timm_case("vit_siglip", "vit_base_patch16_siglip_224", **THIN, **BARE),
    hf_case("vit", "ViTForImageClassification", **HF, **LABELS),
    hf_case("vit_pooler", "ViTModel", **HF),
]

MODELS = FIRST
RESIZED = []
REFUSED = []
