"""Small random models of timm, transformers and open_clip: their parameters, files and outputs.

Parameters are rounded to float16, so that files are small, and the library computes with the rounded
numbers in float64. Outputs have the meaning of docs/qbin.md.
"""
import inspect
import json
import logging
import pathlib
import re
import tempfile
import zlib

import torch

# A torchvision that was built for another torch does not load its operators; timm and transformers
# only import it.
try:
    import torchvision  # noqa: F401
except (ImportError, RuntimeError):
    _stub = torch.library.Library("torchvision", "DEF")
    for _op in ("nms", "qnms"):
        _stub.define(f"{_op}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import open_clip  # noqa: E402
import timm  # noqa: E402
import transformers  # noqa: E402
from safetensors.torch import save_file  # noqa: E402
from timm.models._hub import get_model_args, save_config_for_hf  # noqa: E402

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
logging.getLogger("timm").setLevel(logging.ERROR)

CLASSES = 10
# The residual stream has about this size, so that another epsilon of a LayerNorm shows: 1e-6 beside a
# variance of a few times 2^-12.
SMALL = 1 / 64
# Modules whose outputs the residual stream is made of.
STREAM = {"proj", "fc2", "w3", "out_proj", "attn_out_proj", "mlp_out_proj", "o_proj", "c_proj", "down_proj",
          "weights_out", "reduction", "projection", "patch_embedding", "conv1", "output.dense"}
FIRST_NORMS = {"norm_pre", "ln_pre", "pre_layrnorm", "patch_embed.norm", "embeddings.norm"}
TOKENS = re.compile(r"pos_embed|position_embedding|positional_embedding|_token|class_embedding")


def is_in(name, modules):
    parts = name.split(".")[:-1]
    return any(parts[-m.count(".") - 1:] == m.split(".") for m in modules)


def value_of(name, p, small):
    noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(zlib.crc32(name.encode())))
    leaf = name.split(".")[-1]
    scale = small if is_in(name, STREAM | FIRST_NORMS) or TOKENS.search(name) else 1
    if name.endswith("attn.logit_scale") or name.endswith("self.logit_scale"):
        return torch.linspace(1.5, 5.5, p.numel()).flip(0).reshape(p.shape)  # clamped at log 100 = 4.6
    if p.dim() == 0 or "freqs" in leaf:
        return p.data * (1 + 0.1 * noise)
    if re.search(r"(norm|ln)\w*(\.\d+)?\.weight$", name) or re.search(r"gamma|lambda|ls_\d|layer_scale", name):
        return scale * (1 + 0.25 * noise)
    if p.dim() == 1 and leaf != "class_embedding":
        return scale * 0.2 * noise
    if "table" in name or "latent" in name or "probe" in name or "query" == leaf or TOKENS.search(name):
        return scale * 0.5 * noise
    fan_in = p.shape[0] if leaf == "proj" or leaf == "text_projection" else p[0].numel()  # open_clip's are transposed
    return scale * noise * (1.2 / fan_in ** 0.5)


def randomize(model):
    """Every parameter gets float16 values of a size that matters, so that none can be dropped unnoticed."""
    names = [name for name, _ in model.named_parameters()]
    post_norm = any("cpb_mlp" in n or "continuous_position_bias_mlp" in n for n in names)
    for name, p in model.named_parameters():
        p.data = value_of(name, p, 1 if post_norm else SMALL).to(torch.float16).to(torch.float64)
    return model.double().eval()


def images(height, width):
    g = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randn(2, 3, height, width, generator=g)


# --- outputs ---

def tokens_of(features):
    """[batch, tokens, D] of a map [batch, H, W, D]."""
    return features.flatten(1, -2)


def timm_outputs(model, x):
    features = model.forward_features(x)
    found = {"embedding": model.forward_head(features, pre_logits=True), "features": tokens_of(features)}
    if model.num_classes:
        found["logits"] = model.forward_head(features)
    return found


def record_inputs(modules):
    """What each of the modules is given from now on."""
    seen = []
    for module in modules:
        module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    return seen


def vision_tower(model, classifies):
    if hasattr(model, "vision_model"):
        return model.vision_model
    return model.base_model if classifies or type(model).__name__.endswith("ForPreTraining") else model


def run_transformers(model, x):
    size = getattr(getattr(model.config, "vision_config", model.config), "image_size", None)
    args = {}
    if x.shape[-1] != (size[-1] if isinstance(size, (list, tuple)) else size) and may_interpolate(model):
        args["interpolate_pos_encoding"] = True
    if model.config.model_type == "vit_mae":  # no patch is left out, none changes its place
        count = (x.shape[-2] // model.config.patch_size) * (x.shape[-1] // model.config.patch_size)
        args["noise"] = torch.arange(count, dtype=x.dtype).expand(len(x), -1)
        model.config.mask_ratio = 0.0
    return model(x, **args)


def may_interpolate(model):
    return "interpolate_pos_encoding" in inspect.signature(model.forward).parameters


def transformers_outputs(model, x):
    heads = [m for n, m in model.named_modules() if n.endswith("classifier") and isinstance(m, torch.nn.Linear)]
    tower = vision_tower(model, bool(heads))
    if not heads:
        base = run_transformers(tower, x)
        pooled = base.get("pooler_output")
        if pooled is None:  # timm's of the same models: the mean where there is no class token
            has_class = any("cls_token" in n for n, _ in model.named_parameters())
            pooled = base.last_hidden_state[:, 0] if has_class else base.last_hidden_state.mean(1)
        if hasattr(model, "visual_projection"):
            pooled = model.visual_projection(pooled)
        return {"embedding": pooled, "features": base.last_hidden_state}
    seen, hidden = record_inputs(heads), []
    tower.register_forward_hook(lambda _, args, out: hidden.append(out.last_hidden_state))
    logits = run_transformers(model, x).logits
    return {"embedding": sum(seen) / len(seen), "features": hidden[0], "logits": logits}


def open_clip_outputs(model, x):
    visual, features = model.visual, []
    if hasattr(visual, "trunk"):
        features.append(visual.trunk.forward_features(x))
    else:  # with final_ln_after_pool the norm sees only what is pooled, and the tokens stay as they are
        last = visual.transformer if visual.final_ln_after_pool else visual.ln_post
        last.register_forward_hook(lambda _, args, out: features.append(out))
    embedding = visual(x)  # of a CoCa with the tokens for its decoder
    return {"embedding": embedding[0] if isinstance(embedding, tuple) else embedding, "features": features[0]}


def outputs_of(model, x):
    """Of images in the type of the model's parameters."""
    library = {"timm": timm_outputs, "transformers": transformers_outputs, "open_clip": open_clip_outputs}
    with torch.no_grad():
        found = library[library_of(model)](model, x.to(next(model.parameters()).dtype))
    return {name: value.numpy() for name, value in found.items()}


def library_of(model):
    return type(model).__module__.split(".")[0]


# --- files ---

def halves(state):
    """Parameters as float16, which loses nothing; buffers that are stored as float32."""
    def stored(value):
        if not value.is_floating_point():
            return value
        half = value.to(torch.float16)
        return half if torch.equal(half.to(value.dtype), value) else value.to(torch.float32)
    return {key: stored(value).contiguous().clone() for key, value in state.items()}


def write_json(path, value):
    path.write_text(json.dumps(value, indent=1) + "\n")


def compact(folder):
    for path in folder.glob("*.json"):
        write_json(path, json.loads(path.read_text()))


def save_model(model, folder, config=None):
    """The files that the library's hub has. `config` is that of an open_clip model."""
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    library = library_of(model)
    if isinstance(model, Names):
        model.save(folder)
    elif library == "timm":
        save_file(halves(model.state_dict()), folder / "model.safetensors")
        save_config_for_hf(model, folder / "config.json")
    elif library == "transformers":
        model.save_pretrained(folder, state_dict=halves(model.state_dict()))
    else:
        save_file(halves(model.state_dict()), folder / "open_clip_model.safetensors")
        write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {
            "mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}})
    compact(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


# --- making models ---

def make_timm(arch, **args):
    return randomize(timm.create_model(arch, **{"num_classes": CLASSES, **args}))


def make_transformers(name, **args):
    """The class `name` with a configuration of `args`."""
    cls = getattr(transformers, name)
    own = {key: args.pop(key) for key in ("add_pooling_layer",) if key in args}
    return randomize(cls(cls.config_class(**args, attn_implementation="eager"), **own))


def make_open_clip(config):
    kind = open_clip.coca_model.CoCa if "multimodal_cfg" in config else open_clip.model.CLIP
    return randomize(kind(**json.loads(json.dumps(config))))


def make_open_clip_trunk(config, **args):
    """open_clip makes timm's models in their own size only, so a smaller one takes the place of theirs."""
    config = json.loads(json.dumps(config))
    kind = open_clip.model.CustomTextCLIP if config.pop("custom_text") else open_clip.model.CLIP
    vision = config["vision_cfg"]
    with torch.device("meta"):
        whole = open_clip.model._build_vision_tower(config["embed_dim"], open_clip.model.CLIPVisionCfg(**vision))
    classes = config["embed_dim"] if vision["timm_proj"] == "" else 0
    whole.trunk = timm.create_model(vision["timm_model_name"], num_classes=classes, global_pool=vision["timm_pool"], **args)
    if len(whole.head):
        whole.head.proj = torch.nn.Linear(args["embed_dim"], config["embed_dim"], bias=False)
    small = dict(layers=1, width=16, head_width=8, patch_size=4, image_size=16)
    model = kind(**dict(config, vision_cfg=small))
    model.visual = whole
    return randomize(model)


def timm_for(model, arch, **args):
    """The model that timm makes of this model's weights for other arguments, that is for another image size."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/model.safetensors"
        save_file({k: v.float().contiguous() for k, v in model.state_dict().items()}, path)
        other = timm.create_model(arch, pretrained=True, pretrained_cfg_overlay=dict(
            file=path, num_classes=model.num_classes, custom_load=False), **dict(get_model_args(model), **args))
    return other.double().eval()


NAMES = 12  # tensors that a file of names has


def names_of(model):
    """Halves of one element with the names of the model's tensors, at most NAMES of them, those at the ends first."""
    keys = list(model.state_dict())
    keys = keys if len(keys) <= NAMES else keys[:NAMES // 2] + keys[-NAMES // 2:]
    return {key: torch.zeros(1, dtype=torch.float16) for key in keys}


class Names:
    """The configuration and the names of a model of full size, without its weights."""

    def __init__(self, model):
        self.model = model

    def save(self, folder):
        save_file(names_of(self.model), folder / "model.safetensors")
        if library_of(self.model) == "timm":
            save_config_for_hf(self.model, folder / "config.json")
        else:
            self.model.config.architectures = [type(self.model).__name__]
            self.model.config.save_pretrained(folder)


def bare_timm(arch):
    with torch.device("meta"):
        return Names(timm.create_model(arch))


def bare_transformers(name, **args):
    cls = getattr(transformers, name)
    with torch.device("meta"):
        return Names(cls(cls.config_class(**args)))
