"""The models of make_families.py: a line each."""
import dataclasses
from collections.abc import Callable

from safetensors.torch import load_file, save_file

import library_models as lib


@dataclasses.dataclass
class Case:
    name: str            # of the folder
    make: Callable       # () -> the model, with random parameters
    size: tuple = (16, 16)
    config: dict = None  # open_clip's model configuration
    text: bool = False   # the text tower's outputs too
    word: str = ""       # which a refusal says
    after: Callable = None                    # changes files of the folder
    resize: Callable = lambda model: model    # the model for images of `size`
    weights: str = ""                         # the folder of another case, which has the same weights


VIT = dict(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2)
THIN = dict(VIT, mlp_ratio=1.25)
BARE = dict(num_classes=0)
OBLONG = dict(img_size=(24, 16))
SWIN = dict(img_size=16, patch_size=2, embed_dim=8, depths=(2, 1), num_heads=(1, 2), mlp_ratio=2.0)
HF = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=20, image_size=16,
          patch_size=4)
HF_SWIN = dict(image_size=16, patch_size=2, embed_dim=8, depths=[2, 1], num_heads=[1, 2], mlp_ratio=2.0)
LABELS = dict(num_labels=lib.CLASSES)
OPEN_CLIP_TEXT = dict(context_length=8, vocab_size=16, width=8, heads=2, layers=1, mlp_ratio=1.0)
OPEN_CLIP = dict(image_size=16, patch_size=4, width=16, layers=2, head_width=8, mlp_ratio=1.25)


def pair(size):
    return tuple(size) if isinstance(size, (tuple, list)) else (size, size)


def timm_case(name, arch, after=None, **args):
    return Case("timm_" + name, lambda: lib.make_timm(arch, **args), pair(args.get("img_size", 16)), after=after)


def hf_case(name, cls, text=False, after=None, **args):
    return Case("hf_" + name, lambda: lib.make_transformers(cls, **args), pair(args.get("image_size", 16)), text=text,
                after=after)


def open_clip_config(quick_gelu=False, **vision):
    return dict(embed_dim=12, vision_cfg=dict(OPEN_CLIP, **vision), text_cfg=OPEN_CLIP_TEXT, quick_gelu=quick_gelu)


def open_clip_case(name, quick_gelu=False, word="", **vision):
    config = open_clip_config(quick_gelu, **vision)
    return Case("open_clip_" + name, lambda: lib.make_open_clip(config), config=config, word=word)


def coca_case():
    """A CoCa: a tower with attentional pooling beside a decoder of texts."""
    config = open_clip_config(False, attentional_pool=True, attn_pooler_queries=6, attn_pooler_heads=2, output_tokens=True)
    config["text_cfg"] = dict(config["text_cfg"], embed_cls=True, output_tokens=True)
    config["multimodal_cfg"] = dict(width=8, heads=2, layers=1, context_length=8, vocab_size=16, mlp_ratio=1.0, attn_pooler_heads=2)
    return Case("open_clip_coca", lambda: lib.make_open_clip(config), config=config)


def trunk_case(name, arch, proj, pool, custom=False, **args):
    """A timm model as open_clip's vision tower, which has the number of heads that `arch` has."""
    config = dict(embed_dim=args["embed_dim"], text_cfg=OPEN_CLIP_TEXT, custom_text=custom, vision_cfg=dict(
        timm_model_name=arch, timm_pool=pool, timm_proj=proj, image_size=args["img_size"]))
    return Case("open_clip_" + name, lambda: lib.make_open_clip_trunk(config, **args), pair(args["img_size"]),
                config=config)


def towers(vision=None, **args):
    """A vision and a text tower as the configuration of a CLIP or SigLIP has them."""
    text = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=20, vocab_size=64,
                max_position_embeddings=12, bos_token_id=62, eos_token_id=63, pad_token_id=1)
    return dict(vision_config=dict(HF, **(vision or {})), text_config=text, **args)


# --- changes of files ---

def hub_names(prefix, positions=0):
    """Names as the hub's files of earlier versions have them; `positions` numbers as a buffer."""
    def change(folder):
        path = folder / "model.safetensors"
        state = {prefix + key if not key.startswith(prefix) else key: t for key, t in load_file(path).items()}
        if positions:
            state["vision_model.embeddings.position_ids"] = lib.torch.arange(positions)[None]
        save_file(state, path, metadata={"format": "pt"})
    return change


def preprocessor(**values):
    return lambda folder: lib.write_json(folder / "preprocessor_config.json", values)


CLIP_PROCESSOR = dict(image_processor_type="CLIPImageProcessor", do_resize=True, size={"shortest_edge": 16}, resample=3,
                      do_center_crop=True, crop_size={"height": 16, "width": 16}, do_rescale=True, rescale_factor=1 / 255,
                      do_normalize=True, image_mean=[0.48145466, 0.4578275, 0.40821073],
                      image_std=[0.26862954, 0.26130258, 0.27577711], do_convert_rgb=True)


MODELS = [
    # CLIP, SigLIP
    hf_case("clip", "CLIPModel", text=True, after=preprocessor(**CLIP_PROCESSOR), **towers(projection_dim=12)),
    hf_case("clip_vision", "CLIPVisionModel", **HF),
    hf_case("clip_vision_hub", "CLIPVisionModel", **HF, after=hub_names("vision_model.", 17)),
    hf_case("clip_projection", "CLIPVisionModelWithProjection", **HF, projection_dim=12, hidden_act="gelu"),
    hf_case("clip_classifier", "CLIPForImageClassification", **towers(projection_dim=12, **LABELS)),
    hf_case("siglip", "SiglipModel", **towers()),
    hf_case("siglip_vision", "SiglipVisionModel", **HF),
    hf_case("siglip_vision_hub", "SiglipVisionModel", **HF, after=hub_names("vision_model.")),
    hf_case("siglip_no_head", "SiglipVisionModel", **HF, vision_use_head=False, hidden_act="gelu"),
    hf_case("siglip_classifier", "SiglipForImageClassification", **towers(**LABELS)),
    # DINOv2, DINOv3
    hf_case("dinov2", "Dinov2Model", **HF, mlp_ratio=2),
    hf_case("dinov2_classifier", "Dinov2ForImageClassification", **HF, mlp_ratio=2, **LABELS),
    hf_case("dinov2_swiglu", "Dinov2Model", **HF, mlp_ratio=4, use_swiglu_ffn=True),
    hf_case("dinov2_reg", "Dinov2WithRegistersModel", **HF, mlp_ratio=2),
    hf_case("dinov2_reg_classifier", "Dinov2WithRegistersForImageClassification", **HF, mlp_ratio=2, **LABELS,
            num_register_tokens=3),
    hf_case("dinov3", "DINOv3ViTModel", **HF, num_register_tokens=4),
    hf_case("dinov3_gated", "DINOv3ViTModel", **HF, num_register_tokens=4, use_gated_mlp=True,
            hidden_act="silu"),
    hf_case("dinov3_key_bias", "DINOv3ViTModel", **HF, num_register_tokens=2, key_bias=True),
    hf_case("dinov3_no_bias", "DINOv3ViTModel", **HF, query_bias=False, value_bias=False,
            mlp_bias=False, proj_bias=False),
    timm_case("dinov2", "vit_small_patch14_dinov2", **THIN, **BARE),
    timm_case("dinov2_reg4", "vit_small_patch14_reg4_dinov2", **THIN),
    timm_case("dinov2_giant_reg4", "vit_giant_patch14_reg4_dinov2", **dict(VIT, embed_dim=24)),
    timm_case("dinov3", "vit_small_patch16_dinov3", **THIN, **BARE),
    timm_case("dinov3_token", "vit_base_patch16_dinov3", **THIN, global_pool="token"),
    timm_case("dinov3_qkvb", "vit_small_patch16_dinov3_qkvb", **THIN, **BARE),
    timm_case("dinov3_plus", "vit_small_plus_patch16_dinov3", **THIN, **BARE),
    timm_case("dinov3_oblong", "vit_small_patch16_dinov3", **dict(THIN, **OBLONG), **BARE),
    # BEiT, EVA
    timm_case("beit", "beit_base_patch16_224", **THIN),
    timm_case("beit_headless", "beit_base_patch16_224", **THIN, **BARE),
    timm_case("beit_token", "beit_large_patch16_224", **THIN, global_pool="token"),
    timm_case("beit_shared", "beit_base_patch16_224", **THIN, use_rel_pos_bias=False, use_shared_rel_pos_bias=True),
    timm_case("beit_swiglu", "beit_base_patch16_224", **THIN, **BARE, swiglu_mlp=True, scale_mlp=True),
    timm_case("beitv2", "beitv2_base_patch16_224", **THIN),
    timm_case("beitv2_oblong", "beitv2_base_patch16_224", **dict(THIN, **OBLONG), **BARE),
    hf_case("beit", "BeitModel", **HF, use_relative_position_bias=True),
    hf_case("beit_token", "BeitModel", **HF, use_relative_position_bias=True, use_mean_pooling=False),
    hf_case("beit_shared", "BeitModel", **HF, use_shared_relative_position_bias=True, use_mask_token=True),
    hf_case("beit_absolute", "BeitModel", **HF, use_absolute_position_embeddings=True, layer_scale_init_value=0.0),
    hf_case("beit_classifier", "BeitForImageClassification", **HF, use_relative_position_bias=True, **LABELS),
    timm_case("beit3", "beit3_base_patch16_224", **THIN),
    timm_case("eva02", "eva02_tiny_patch14_224", **VIT),
    timm_case("eva02_base", "eva02_base_patch14_448", **VIT, **BARE),
    timm_case("eva02_oblong", "eva02_tiny_patch14_336", **dict(VIT, **OBLONG), **BARE),
    timm_case("eva02_map", "eva02_tiny_patch14_224", **THIN, **BARE, global_pool="map"),
    timm_case("eva02_clip", "eva02_base_patch16_clip_224", **VIT),
    timm_case("eva02_enormous", "eva02_enormous_patch14_clip_224", **THIN),
    timm_case("eva_clip", "eva_giant_patch14_clip_224", **THIN),
    timm_case("eva_giant", "eva_giant_patch14_224", **THIN),
    timm_case("eva_large", "eva_large_patch14_196", **THIN),
    # plain ViT of timm
    timm_case("vit", "vit_tiny_patch16_224", **THIN),
    timm_case("vit_headless", "vit_tiny_patch16_224", **THIN, **BARE),
    timm_case("vit_avg_fc_norm", "vit_tiny_patch16_224", **THIN, global_pool="avg"),
    timm_case("vit_avg_fc_norm_headless", "vit_tiny_patch16_224", **THIN, **BARE, global_pool="avg", fc_norm=True),
    timm_case("vit_avg", "vit_tiny_patch16_224", **THIN, global_pool="avg", fc_norm=False),
    timm_case("vit_token_fc_norm", "vit_tiny_patch16_224", **THIN, fc_norm=True),
    timm_case("vit_gap", "vit_base_patch16_gap_224", **THIN),
    timm_case("vit_no_embed_class", "vit_tiny_patch16_224", **THIN, no_embed_class=True),
    timm_case("vit_reg_embedded", "vit_tiny_patch16_224", **THIN, reg_tokens=3),
    timm_case("vit_reg_no_class", "vit_base_patch16_reg4_gap_256", **THIN),
    timm_case("vit_reg_scaled", "vit_medium_patch16_reg4_gap_256", **THIN, **BARE),
    timm_case("vit_reg_embedded_gap", "vit_so150m_patch16_reg4_gap_256", **THIN),
    timm_case("vit_reg_map", "vit_so150m_patch16_reg4_map_256", **THIN, **BARE),
    timm_case("vit_class_map", "vit_tiny_patch16_224", **THIN, **BARE, global_pool="map"),
    timm_case("vit_reg1_no_bias", "vit_so150m2_patch16_reg1_gap_256", **THIN),
    timm_case("vit_gap240", "vit_medium_patch16_gap_240", **THIN),
    timm_case("vit_no_bias", "vit_base_patch16_224_miil", **THIN),
    timm_case("vit_qk_norm", "vit_tiny_patch16_224", **THIN, qk_norm=True),
    timm_case("vit_no_final_norm", "vit_intern300m_patch14_448", **THIN, **BARE),
    timm_case("vit_scaled", "vit_small_patch16_36x1_224", **THIN),
    timm_case("vit_patch8", "vit_small_patch8_224", **dict(THIN, patch_size=8)),
    timm_case("vit_patch7", "vit_large_patch14_224", **dict(THIN, patch_size=7, img_size=28)),
    timm_case("vit_oblong", "vit_tiny_patch16_224", **dict(THIN, **OBLONG)),
    timm_case("vit_remainder", "vit_tiny_patch16_224", **dict(THIN, img_size=(18, 19)), **BARE),
    timm_case("vit_clip", "vit_base_patch32_clip_224", **THIN),
    timm_case("vit_clip_quickgelu", "vit_base_patch32_clip_quickgelu_224", **THIN, **BARE),
    timm_case("vit_siglip", "vit_base_patch16_siglip_224", **THIN, **BARE),
    timm_case("vit_siglip_head", "vit_base_patch16_siglip_256", **THIN),
    timm_case("vit_siglip_gap", "vit_base_patch16_siglip_gap_224", **THIN),
    timm_case("vit_so400m", "vit_so400m_patch14_siglip_224", **THIN, **BARE),
    timm_case("vit_so400m_tanh", "vit_so400m_patch16_siglip_256", **THIN, **BARE),
    timm_case("vit_mae", "vit_base_patch16_224.mae", **THIN, **BARE),
    timm_case("vit_ijepa", "vit_huge_patch14_gap_224.in1k_ijepa", **THIN, **BARE),
    timm_case("vit_rpn", "vit_base_patch16_rpn_224", **THIN),
    timm_case("vit_relpos", "vit_relpos_small_patch16_224", **THIN),
    timm_case("vit_relpos_cls", "vit_relpos_medium_patch16_cls_224", **THIN),
    timm_case("vit_srelpos", "vit_srelpos_small_patch16_224", **THIN, **BARE),
    timm_case("flexivit", "flexivit_small", **THIN),
    timm_case("deit", "deit_tiny_patch16_224", **THIN),
    timm_case("deit_distilled", "deit_tiny_distilled_patch16_224", **THIN),
    timm_case("deit_distilled_headless", "deit_small_distilled_patch16_224", **THIN, **BARE),
    timm_case("deit3", "deit3_small_patch16_224", **THIN),
    # rotary positions
    timm_case("rope", "vit_small_patch16_rope_224", **THIN),
    timm_case("rope_swiglu", "vit_small_patch16_rope_224", **THIN, **BARE, swiglu_mlp=True),
    timm_case("rope_ape", "vit_small_patch16_rope_ape_224", **THIN),
    timm_case("rope_mixed", "vit_small_patch16_rope_mixed_224", **THIN),
    timm_case("rope_mixed_ape", "vit_small_patch16_rope_mixed_ape_224", **THIN, **BARE),
    timm_case("rope_oblong", "vit_base_patch16_rope_224", **dict(THIN, **OBLONG), **BARE),
    timm_case("rope_mixed_oblong", "vit_base_patch16_rope_mixed_224", **dict(THIN, **OBLONG), **BARE),
    timm_case("rope_reg1_gap", "vit_medium_patch16_rope_reg1_gap_256", **THIN),
    timm_case("pe_core", "vit_pe_core_base_patch16_224", **THIN, attn_pool_num_heads=2, attn_pool_mlp_ratio=2.0),
    timm_case("pe_spatial", "vit_pe_spatial_base_patch16_512", **THIN, **BARE),
    # Swin
    timm_case("swin", "swin_tiny_patch4_window7_224", **SWIN, window_size=4),
    timm_case("swin_headless", "swin_tiny_patch4_window7_224", **SWIN, window_size=4, **BARE),
    timm_case("swin_s3", "swin_s3_tiny_224", **dict(SWIN, img_size=32), window_size=((4, 4), (8, 8))),
    timm_case("swin_one_token", "swin_tiny_patch4_window7_224", **dict(SWIN, img_size=4), window_size=2),
    timm_case("swinv2", "swinv2_tiny_window8_256", **SWIN, window_size=4),
    timm_case("swinv2_pretrained", "swinv2_base_window12to16_192to256", **SWIN, window_size=4,
              pretrained_window_sizes=(3, 3)),
    timm_case("swinv2_oblong", "swinv2_tiny_window8_256", **dict(SWIN, img_size=(24, 8)), window_size=8, **BARE),
    hf_case("swin", "SwinForImageClassification", **HF_SWIN, window_size=4, **LABELS),
    hf_case("swin_model", "SwinModel", **HF_SWIN, window_size=4),
    hf_case("swin_absolute", "SwinForImageClassification", **HF_SWIN, window_size=4, use_absolute_embeddings=True,
            **LABELS),
    hf_case("swinv2", "Swinv2ForImageClassification", **HF_SWIN, window_size=4, **LABELS),
    hf_case("swinv2_pretrained", "Swinv2Model", **HF_SWIN, window_size=8, pretrained_window_sizes=[6, 4]),
    # plain ViT of transformers
    hf_case("vit", "ViTForImageClassification", **HF, **LABELS),
    hf_case("vit_pooler", "ViTModel", **HF),
    hf_case("vit_no_pooler", "ViTModel", **HF, add_pooling_layer=False),
    hf_case("vit_tanh_no_bias", "ViTForImageClassification", **HF, **LABELS, hidden_act="gelu_new", qkv_bias=False),
    hf_case("vit_oblong", "ViTForImageClassification", **dict(HF, image_size=[24, 16]), **LABELS),
    hf_case("deit", "DeiTForImageClassification", **HF, **LABELS),
    hf_case("deit_teacher", "DeiTForImageClassificationWithTeacher", **HF, **LABELS),
    hf_case("deit_model", "DeiTModel", **HF),
    hf_case("deit_pooler_gelu", "DeiTModel", **HF, pooler_act="gelu"),
    hf_case("msn", "ViTMSNModel", **HF),
    hf_case("msn_classifier", "ViTMSNForImageClassification", **HF, **LABELS),
    hf_case("mae", "ViTMAEModel", **HF),
    hf_case("mae_pretraining", "ViTMAEForPreTraining", **HF, decoder_hidden_size=8, decoder_num_hidden_layers=1,
            decoder_num_attention_heads=2, decoder_intermediate_size=16),
    hf_case("ijepa", "IJepaModel", **HF),
    hf_case("ijepa_classifier", "IJepaForImageClassification", **HF, **LABELS),
    # OpenCLIP
    open_clip_case("gelu"),
    open_clip_case("quick_gelu", quick_gelu=True),
    open_clip_case("layer_scale", ls_init_value=0.1),
    open_clip_case("no_ln_pre", no_ln_pre=True),
    open_clip_case("ln_after_pool", final_ln_after_pool=True, pool_type="avg"),
    open_clip_case("attentional_pool", attentional_pool=True, attn_pooler_queries=4, attn_pooler_heads=2),
    coca_case(),
    trunk_case("siglip", "vit_base_patch16_siglip_224", "none", "map", True, **dict(THIN, embed_dim=24, depth=1, num_heads=12)),
    trunk_case("trunk_linear", "vit_tiny_patch16_224", "linear", "token", **dict(THIN, embed_dim=12, num_heads=3)),
    trunk_case("trunk_head", "eva02_tiny_patch14_224", "", "token", **dict(VIT, embed_dim=12, num_heads=3)),
]


BY_NAME = {case.name: case for case in MODELS}


def timm_resized(weights, size, arch, **args):
    """The model of a folder for images of another size; with `args` one that only this is made for."""
    case = timm_case(weights, arch, **args)
    case.resize = lambda model: lib.timm_for(model, arch, img_size=size)
    return resized(case, size)


def hf_resized(weights, size, cls="", **args):
    return resized(hf_case(weights, cls, **args), size)


def resized(case, size):
    if case.name in BY_NAME:
        case.weights, case.make = case.name, BY_NAME[case.name].make
    case.size = pair(size)
    case.name += "_to" + "x".join(map(str, case.size))
    return case


LARGE = dict(THIN, img_size=24)
HF_LARGE = dict(HF, image_size=24)
RESIZED = [
    timm_resized("vit", 24, "vit_tiny_patch16_224"),
    timm_resized("vit_large", 16, "vit_tiny_patch16_224", **LARGE, **BARE),
    timm_resized("vit_large", (16, 28), "vit_tiny_patch16_224", **LARGE),
    timm_resized("vit_reg_no_class", 24, "vit_base_patch16_reg4_gap_256"),
    timm_resized("vit_siglip", 24, "vit_base_patch16_siglip_224"),
    timm_resized("deit_distilled", 24, "deit_tiny_distilled_patch16_224"),
    timm_resized("deit3", 24, "deit3_small_patch16_224"),
    timm_resized("dinov2_large", 16, "vit_small_patch14_dinov2", **LARGE, **BARE),
    timm_resized("dinov2_reg4_large", 16, "vit_small_patch14_reg4_dinov2", **LARGE, **BARE),
    timm_resized("dinov3", 24, "vit_small_patch16_dinov3"),
    timm_resized("flexivit", 24, "flexivit_small"),
    timm_resized("flexivit_large", 16, "flexivit_small", **LARGE, **BARE),
    timm_resized("beit", 24, "beit_base_patch16_224"),
    timm_resized("eva02", 24, "eva02_tiny_patch14_224"),
    timm_resized("vit_relpos", 24, "vit_relpos_small_patch16_224"),
    timm_resized("vit_relpos_cls", (16, 28), "vit_relpos_medium_patch16_cls_224"),
    timm_resized("swin", 32, "swin_tiny_patch4_window7_224"),
    timm_resized("swinv2", 32, "swinv2_tiny_window8_256"),
    hf_resized("vit", 24),
    hf_resized("vit_large", 16, "ViTModel", **HF_LARGE),
    hf_resized("deit", 24),
    hf_resized("dinov2_large", 16, "Dinov2Model", **HF_LARGE, mlp_ratio=2),
    hf_resized("dinov2_reg_large", 16, "Dinov2WithRegistersModel", **HF_LARGE, mlp_ratio=2),
    hf_resized("dinov3", 24),
    hf_resized("mae", 24),
    hf_resized("clip_projection", 24),
    hf_resized("siglip_vision", 24),
    hf_resized("beit", 24),
    hf_resized("swin", 32),
    hf_resized("swinv2", 32),
]


def refused_timm(arch, word):
    """The names of the tensors of an architecture of its own size."""
    return Case("no_" + arch, lambda: lib.bare_timm(arch), word=word)


def refused_transformers(name, word, cls, **args):
    return Case("no_hf_" + name, lambda: lib.bare_transformers(cls, **args), word=word)


def refused(word, case):
    case.word, case.name = word, "no_" + case.name
    return case


TINY = dict(THIN, depth=1, embed_dim=8)
TINY_HF = dict(HF, num_hidden_layers=1)
REFUSED = [
    refused("parallel", timm_case("parallel_things", "vit_small_patch16_18x2_224", **TINY)),
    refused("parallel", timm_case("parallel_scaling", "vit_pwee_patch16_reg1_gap_256", **TINY)),
    refused("parallel", timm_case("xp", "vit_base_patch16_xp_224", **TINY)),
    refused("differential", timm_case("differential", "vit_dwee_patch16_reg1_gap_256", **TINY)),
    refused("pool", timm_case("max_pool", "vit_tiny_patch16_224", **TINY, global_pool="max")),
    refused("SwinV2-CR", timm_case("swinv2_cr", "swinv2_cr_tiny_ns_224", **dict(SWIN, img_size=32, embed_dim=4),
                                   window_size=4)),
    refused("NaFlex", hf_case("siglip2", "Siglip2VisionModel", **{k: v for k, v in TINY_HF.items() if k != "image_size"},
                              num_patches=16)),
    refused("NaFlex", timm_case("naflexvit", "naflexvit_base_patch16_gap",
                                **{k: v for k, v in TINY.items() if k != "img_size"})),
    *(refused_timm(arch, word) for arch, word in (
        ("mobilevit_xxs", "MobileViT"), ("mobilevitv2_050", "MobileViT"), ("maxvit_tiny_tf_224", "MaxViT"),
        ("levit_128s", "LeViT"), ("tiny_vit_5m_224", "TinyViT"), ("hiera_tiny_224", "Hiera"), ("convit_tiny", "ConViT"),
        ("cait_xxs24_224", "CaiT"), ("xcit_nano_12_p16_224", "XCiT"), ("crossvit_tiny_240", "CrossViT"),
        ("samvit_base_patch16_224", "SAM"), ("efficientvit_b0", "EfficientViT"), ("efficientvit_m0", "EfficientViT"),
        ("mvitv2_tiny", "MViT"), ("pvt_v2_b0", "PVT"), ("twins_svt_small", "Twins"), ("coat_tiny", "CoaT"),
        ("davit_tiny", "DaViT"), ("gcvit_xxtiny", "GCViT"), ("volo_d1_224", "VOLO"), ("tnt_s_patch16_224", "TNT"),
        ("visformer_tiny", "Visformer"), ("nest_tiny", "NesT"), ("pit_ti_224", "PiT"), ("poolformer_s12", "PoolFormer"),
        ("vitamin_small_224", "ViTamin"), ("fastvit_t8", "FastViT"), ("repvit_m0_9", "RepViT"), ("nextvit_small", "NextViT"),
        ("edgenext_xx_small", "EdgeNeXt"), ("mixer_s32_224", "Mixer"), ("vit_tiny_r_s16_p8_224", "hybrid"),
        ("convnext_atto", "ConvNeXt"), ("resnet18", "ResNet"))),
    refused_transformers("mobilevit", "MobileViT", "MobileViTModel"),
    refused_transformers("levit", "LeViT", "LevitForImageClassification"),
    refused_transformers("hiera", "Hiera", "HieraModel"),
    refused_transformers("pvt", "PVT", "PvtModel"),
    refused_transformers("cvt", "CvT", "CvtModel"),
    refused_transformers("data2vec", "Data2Vec", "Data2VecVisionModel"),
    refused_transformers("yolos", "YOLOS", "YolosModel"),
    refused_transformers("blip", "BLIP", "BlipVisionModel"),
    refused_transformers("dinov3_convnext", "DINOv3", "DINOv3ConvNextModel"),
    refused_transformers("sam", "Segment Anything", "SamVisionModel"),
]
