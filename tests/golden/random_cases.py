"""Draws of models with arguments that no hub's model has together, for tests/checks/check_models --random."""
import library_models as lib
from family_cases import Case, open_clip_config, pair

HEAD_DIMS = (4, 8, 12, 16)
VIT = ("vit_tiny_patch16_224", "vit_base_patch32_224", "deit3_small_patch16_224", "vit_base_patch16_gap_224",
       "vit_base_patch16_siglip_224", "vit_base_patch16_siglip_gap_224", "vit_so400m_patch16_siglip_256",
       "vit_base_patch32_clip_224", "vit_base_patch16_clip_quickgelu_224", "vit_small_patch14_dinov2",
       "vit_small_patch14_reg4_dinov2", "vit_medium_patch16_reg4_gap_256", "vit_so150m_patch16_reg4_gap_256",
       "flexivit_small")
EVA = ("vit_small_patch16_dinov3", "vit_base_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3", "eva02_tiny_patch14_224",
       "eva02_base_patch14_448", "eva02_base_patch16_clip_224", "eva_giant_patch14_224", "eva_large_patch14_196",
       "vit_small_patch16_rope_224", "vit_small_patch16_rope_mixed_224", "vit_small_patch16_rope_ape_224",
       "vit_small_patch16_rope_mixed_ape_224", "vit_medium_patch16_rope_reg1_gap_256")
BEIT = ("beit_base_patch16_224", "beitv2_base_patch16_224")
SWIN = ("swin_tiny_patch4_window7_224", "swin_base_patch4_window12_384", "swinv2_tiny_window8_256", "swin_s3_tiny_224")
TRANSFORMERS = ("ViTModel", "ViTForImageClassification", "DeiTForImageClassification", "DeiTModel", "Dinov2Model",
                "Dinov2ForImageClassification", "Dinov2WithRegistersModel", "Dinov2WithRegistersForImageClassification",
                "DINOv3ViTModel", "BeitModel", "BeitForImageClassification", "CLIPVisionModel",
                "CLIPVisionModelWithProjection", "SiglipVisionModel", "IJepaModel", "IJepaForImageClassification",
                "ViTMSNModel", "ViTMAEModel")
BOTH = (False, True)
# Arguments that a draw may give, each with the chance that it does and its values.
OF_VIT = dict(class_token=(0.3, BOTH), reg_tokens=(0.3, (0, 1, 3)), no_embed_class=(0.3, BOTH),
              global_pool=(0.4, ("token", "avg", "map", "max")), fc_norm=(0.25, BOTH), final_norm=(0.15, BOTH),
              qkv_bias=(0.3, BOTH), qk_norm=(0.2, BOTH), init_values=(0.3, (None, 1e-5, 1.0)), pre_norm=(0.2, BOTH),
              act_layer=(0.15, ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu")), pos_embed=(0.15, ("none", "learn")),
              proj_bias=(0.1, BOTH), pool_include_prefix=(0.1, BOTH), scale_attn_norm=(0.07, BOTH),
              scale_mlp_norm=(0.07, BOTH), attn_layer=(0.05, ("attn", "diff")), norm_layer=(0.07, ("rmsnorm",)),
              dynamic_img_size=(0.15, BOTH))
OF_EVA = dict(qkv_bias=(0.2, BOTH), qkv_fused=(0.15, BOTH), qk_norm=(0.1, BOTH), swiglu_mlp=(0.15, BOTH),
              scale_mlp=(0.1, BOTH), scale_attn_inner=(0.1, BOTH), init_values=(0.15, (None, 0.1)), class_token=(0.1, BOTH),
              num_reg_tokens=(0.15, (0, 2)), no_embed_class=(0.1, BOTH), use_abs_pos_emb=(0.15, BOTH),
              use_rot_pos_emb=(0.1, BOTH), rope_type=(0.1, ("cat", "mixed", "dinov3")), rope_grid_offset=(0.07, (0.0, 1.0)),
              rope_grid_indexing=(0.07, ("ij", "xy")), rope_temperature=(0.1, (10.0, 100.0)), rope_rotate_half=(0.07, BOTH),
              global_pool=(0.3, ("token", "avg", "map")), ref_feat_shape=(0.1, ((8, 8), (4, 6))), use_fc_norm=(0.1, BOTH),
              use_pre_transformer_norm=(0.07, BOTH), use_post_transformer_norm=(0.07, BOTH), use_post_norm=(0.05, BOTH),
              attn_only_layer_scale=(0.04, BOTH), swiglu_align_to=(0.07, (0, 8)))
OF_BEIT = dict(global_pool=(0.3, ("token", "avg", "max")), use_rel_pos_bias=(0.2, BOTH), use_shared_rel_pos_bias=(0.2, BOTH),
               use_abs_pos_emb=(0.3, BOTH), init_values=(0.3, (None, 0.1)), swiglu_mlp=(0.1, BOTH), scale_mlp=(0.1, BOTH),
               qkv_bias=(0.2, BOTH))
OF_SWIN = dict(mlp_ratio=(0.5, (1.0, 2.0)), qkv_bias=(0.2, BOTH), global_pool=(0.1, ("avg", "max")),
               always_partition=(0.1, BOTH), pretrained_window_sizes=(0.1, ((2, 2, 2), (4, 2, 1))))
OF_TRANSFORMERS = dict(
    layer_norm_eps=(0.3, (1e-12, 1e-6, 1e-5, 1e-3)), qkv_bias=(0.2, BOTH), use_swiglu_ffn=(0.3, BOTH),
    hidden_act=(0.25, ("gelu", "quick_gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu")),
    layerscale_value=(0.2, (0.1,)), apply_layernorm=(0.1, BOTH), num_register_tokens=(0.6, (0, 1, 4)),
    query_bias=(0.2, BOTH), key_bias=(0.2, BOTH), value_bias=(0.2, BOTH), proj_bias=(0.2, BOTH), mlp_bias=(0.2, BOTH),
    use_gated_mlp=(0.4, BOTH), rope_theta=(0.2, (10.0, 1000.0)), use_relative_position_bias=(0.5, BOTH),
    use_shared_relative_position_bias=(0.3, BOTH), use_absolute_position_embeddings=(0.3, BOTH),
    use_mean_pooling=(0.4, BOTH), layer_scale_init_value=(0.4, (0.0, 0.1)), use_mask_token=(0.2, BOTH),
    vision_use_head=(0.2, BOTH), projection_dim=(1, (4, 9)), pooler_act=(0.2, ("tanh", "gelu")))
OF_OPEN_CLIP = dict(
    ls_init_value=(0.3, (0.1,)), no_ln_pre=(0.2, BOTH), pool_type=(0.3, ("tok", "avg")), final_ln_after_pool=(0.2, BOTH),
    mlp_ratio=(0.3, (1.0, 2.0)), act_kwargs=(0.15, (dict(approximate="tanh"),)), norm_kwargs=(0.15, (dict(eps=1e-3),)),
    qk_norm=(0.1, BOTH), block_type=(0.05, ("custom",)), scale_attn_inner=(0.05, BOTH), scale_attn=(0.05, BOTH),
    scale_fc=(0.05, BOTH), scale_heads=(0.05, BOTH), scaled_cosine_attn=(0.05, BOTH),
    pos_embed_type=(0.1, ("sin_cos_2d",)))


def some(random, choices):
    return {key: random.choice(values) for key, (chance, values) in choices.items() if random.random() < chance}


def side(random, patch):
    """Of an image, mostly a multiple of the patch."""
    return patch * random.randint(2, 5) + (random.randrange(patch) if random.random() < 0.2 else 0)


def flat(random):
    """Sizes of a ViT."""
    heads, patch = random.randint(1, 4), random.choice((2, 3, 4, 5, 8))
    args = dict(embed_dim=heads * random.choice(HEAD_DIMS), num_heads=heads, depth=random.randint(1, 3), patch_size=patch,
                img_size=(side(random, patch), side(random, patch)), num_classes=random.choice((0, 0, 1, 2, 7)))
    return dict(args, **some(random, dict(mlp_ratio=(0.4, (1.0, 1.5, 2.0, 3.0)))))


def timm_swin(random):
    patch, heads, stages = random.choice((2, 4)), random.choice((1, 2)), random.randint(1, 3)
    args = dict(patch_size=patch, window_size=random.randint(2, 4), embed_dim=heads * random.choice((4, 8)),
                depths=tuple(random.randint(1, 2) for _ in range(stages)),
                num_heads=tuple(heads << i for i in range(stages)), num_classes=random.choice((0, 1, 7)),
                img_size=(patch * random.randint(2, 9), patch * random.randint(2, 9)))
    return random.choice(SWIN), dict(args, **some(random, OF_SWIN))


def timm_args(random):
    """(architecture, arguments)"""
    kind = random.choice(("vit", "vit", "eva", "eva", "beit", "swin", "deit"))
    if kind == "swin":
        return timm_swin(random)
    names, choices = dict(vit=(VIT, OF_VIT), eva=(EVA, OF_EVA), beit=(BEIT, OF_BEIT), deit=(
        ("deit_tiny_distilled_patch16_224",), dict(qkv_bias=(0.3, BOTH), init_values=(0.2, (0.1,)))))[kind]
    return random.choice(names), dict(flat(random), **some(random, choices))


def transformers_args(random):
    """(class, arguments), of OF_TRANSFORMERS those that the class's configuration has."""
    name, heads, patch = random.choice(TRANSFORMERS), random.randint(1, 3), random.choice((2, 4, 5))
    config = getattr(lib.transformers, name).config_class()
    args = dict(hidden_size=heads * random.choice((4, 8, 12)), num_hidden_layers=random.randint(1, 2),
                num_attention_heads=heads, intermediate_size=random.choice((8, 20, 32)), patch_size=patch,
                image_size=patch * random.randint(2, 5))
    args.update((key, value) for key, value in some(random, OF_TRANSFORMERS).items() if hasattr(config, key))
    if "Dinov2" in name:
        args["mlp_ratio"] = random.choice((1, 2, 4))
    if "Classification" in name:
        args["num_labels"] = random.choice((2, 3, 7))
    return name, args


def open_clip_args(random):
    """(quick_gelu, vision configuration)"""
    head, heads, patch = random.choice(HEAD_DIMS), random.randint(1, 3), random.choice((2, 4, 5))
    vision = dict(image_size=patch * random.randint(2, 5), patch_size=patch, width=head * heads, layers=random.randint(1, 3),
                  head_width=head)
    return random.random() < 0.4, dict(vision, **some(random, OF_OPEN_CLIP))


def draw(random):
    """A Case; what it makes fails where the library has no model of these arguments."""
    chosen = random.random()
    if chosen < 0.6:
        arch, args = timm_args(random)
        return Case(f"timm {arch} {args}", lambda: lib.make_timm(arch, **args), pair(args["img_size"]))
    if chosen < 0.9:
        name, args = transformers_args(random)
        return Case(f"transformers {name} {args}", lambda: lib.make_transformers(name, **args), pair(args["image_size"]))
    quick_gelu, vision = open_clip_args(random)
    config = open_clip_config(quick_gelu, **vision)
    return Case(f"open_clip quick_gelu={quick_gelu} {vision}", lambda: lib.make_open_clip(config),
                pair(vision["image_size"]), config=config)
