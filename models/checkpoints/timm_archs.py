"""Writes timm_archs.inc: what timm's name of an architecture says that no tensor tells.

    pip install torch timm
    python3 timm_archs.py        # writes timm_archs.inc beside this file

Made with timm 1.0.31. A line for each architecture with ViT's blocks: width, heads, LayerNorm's epsilon,
activation, pooling, heads of attention pooling, whether that includes prefix tokens, register
tokens, whether there is a norm after the blocks, whether norms end the branches of a block, RoPE; or why it is refused.
"""
import os
import warnings

import timm
import torch

warnings.filterwarnings("ignore")
PATTERNS = ("vit_*", "deit*", "beit*", "eva*", "flexivit*", "test_vit*")
POST_NORM = ("EvaBlockPostNorm", "ResPostBlock", "ResPostRelPosBlock")  # blocks whose norms end the branches
BLOCKS = ("Block", "EvaBlock", "BeitBlock", "RelPosBlock", *POST_NORM)
ATTENTIONS = ("Attention", "EvaAttention", "AttentionRope", "RelPosAttention")
ACTIVATIONS = {"GELU": "kGelu", "GELUTanh": "kGeluTanh", "QuickGELU": "kQuickGelu", "SiLU": "kSilu"}
POOLS = {"token": "kToken", "avg": "kAverage", "map": "kMap"}


def name_of(module):
    return type(module).__name__


def refusal(model):
    """Returns why the architecture is not run; "" if it is."""
    if name_of(model) not in ("VisionTransformer", "VisionTransformerDistilled", "VisionTransformerRelPos", "Eva", "Beit"):
        return "is a model of timm's class " + name_of(model)
    block = model.blocks[0]
    if name_of(model.patch_embed) != "PatchEmbed":
        return "is a ViT on convolutions (hybrid)"
    if any(name_of(b) not in BLOCKS for b in model.blocks):
        return "has blocks of timm's class " + name_of(block)
    if name_of(block.attn) not in ATTENTIONS:
        return "has attention of timm's class " + name_of(block.attn)
    norms = {name_of(m) for m in model.modules() if hasattr(m, "eps")}
    if norms != {"LayerNorm"}:
        return "has norms of timm's class " + sorted(norms - {"LayerNorm"})[0]
    if len({m.eps for m in model.modules() if hasattr(m, "eps")}) != 1:
        return "has norms with different epsilons"
    if getattr(block.attn, "gate", None) is not None:
        return "has gated attention"
    if getattr(block.attn, "num_kv_groups", 1) != 1:
        return "has grouped queries"
    if model.global_pool not in POOLS:
        return "has pooling " + str(model.global_pool)
    if not isinstance(getattr(model, "norm", None), (torch.nn.LayerNorm, torch.nn.Identity)):
        return "has a last norm of its own"
    if name_of(block.mlp) not in ("Mlp", "GluMlp", "SwiGLU"):
        return "has an MLP of timm's class " + name_of(block.mlp)
    if name_of(block.mlp.act) not in ACTIVATIONS:
        return "has the activation " + name_of(block.mlp.act)
    if len({getattr(getattr(b.attn, "qkv", None), "out_features", 0) for b in model.blocks}) != 1:
        return "has blocks of different widths"
    width = getattr(getattr(block.attn, "qkv", None), "out_features", None)
    if width not in (None, 3 * model.embed_dim):
        return "has heads that are wider or narrower than the model"
    return ""


def rope(model):
    module = getattr(model, "rope", None)
    kind = name_of(module)
    if module is None:
        return "{}"
    xy = "true" if module.grid_indexing == "xy" else "false"
    if kind == "RotaryEmbeddingMixed":
        return "{Grid::kMixed, true, %s}" % xy
    neighbours = "false" if module.rotate_half else "true"
    if kind == "RotaryEmbeddingDinoV3":
        assert module.normalize_coords == "separate" and module.grid_offset == 0
        return "{Grid::kCentred, %s, %s, %g}" % (neighbours, xy, module.temperature)
    assert kind == "RotaryEmbeddingCat" and not module.in_pixels
    ref = module.ref_feat_shape[0] if module.ref_feat_shape else 0
    return "{Grid::kIndex, %s, %s, %g, %g, %d}" % (neighbours, xy, module.temperature,
                                                   module.grid_offset, ref)


def attention_pool_heads(model):
    """Heads of attention pooling where they are not those of the blocks; else 0."""
    pool = getattr(model, "attn_pool", None)
    return pool.num_heads if pool and pool.num_heads != model.blocks[0].attn.num_heads else 0


def pools_prefix(model):
    """Whether attention pooling, where there is any, reads the prefix tokens too."""
    return name_of(model) == "Eva" or getattr(model, "pool_include_prefix", False)


def has_norm(model):
    """Whether there is a norm after the blocks, of all tokens or of what is pooled."""
    return not all(isinstance(getattr(model, n, None), torch.nn.Identity) for n in ("norm", "fc_norm"))


def registers(model):
    token = getattr(model, "reg_token", None)
    return 0 if token is None else token.shape[1]


def line(name):
    model = timm.create_model(name, device="meta")
    reason = refusal(model)
    if reason:
        return f'VITRUN_REFUSED("{name}", "{reason}")\n'
    block, eps = model.blocks[0], next(m.eps for m in model.modules() if hasattr(m, "eps"))
    return (f'VITRUN_ARCH("{name}", {model.embed_dim}, {block.attn.num_heads}, {eps:g}f, '
            f'{ACTIVATIONS[name_of(block.mlp.act)]}, {POOLS[model.global_pool]}, '
            f'{attention_pool_heads(model)}, {str(pools_prefix(model)).lower()}, {registers(model)}, '
            f'{str(has_norm(model)).lower()}, {str(name_of(block) in POST_NORM).lower()}, '
            f'{rope(model)})\n')


if __name__ == "__main__":
    names = sorted({n for p in PATTERNS for n in timm.list_models(p)})
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "timm_archs.inc"), "w") as out:
        out.write("// Made by timm_archs.py: timm's architectures with ViT's blocks.\n"
                  "// clang-format off\n")
        out.writelines(line(n) for n in names)
