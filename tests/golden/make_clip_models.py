"""Writes small random CLIP models with both towers, and what transformers and open_clip make of texts: golden/clip/.

    pip install torch transformers==5.24.0 open_clip_torch==3.3.0 safetensors
    python3 tests/golden/make_clip_models.py      # after make_clip_tokens.py

hf/ is transformers' CLIPModel with its tokenizer beside it, open_clip/ a model of open_clip with vocab.json and merges.txt. Both
have texts.json ({"texts", "classes", "templates"}), text_embeds.npy [texts, D] (not normalised), class_embeds.npy [classes, D]
(the normalised mean over the templates of normalised embeddings), input.npy (two images, normalised), image_embeds.npy and
logits.npy [images, classes]. Weights are rounded to float16, all is computed in float64.
"""
import json
import pathlib
import shutil

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

OUT = pathlib.Path(__file__).parent / "clip"
TEXTS = ["a photo of a cat.", "dog", "", "a red car in a blurry photo of many dogs", "un café à la crème brûlée", "中文字符", "👍🏽 ok?",
         "the cat and the dog " * 30]
CLASSES = ["cat", "dog", "a red car", "Größe"]
TEMPLATES = ["a photo of a {}.", "art of the {}."]


def randomize(model):
    torch.manual_seed(22)
    for name, p in model.named_parameters():
        if name.endswith("logit_scale"):
            p.data = torch.tensor(3.5)
        elif "norm" in name or "ln_" in name:
            p.data = torch.randn(p.shape) * 0.2 + (1.0 if name.endswith("weight") else 0.0)
        elif p.dim() == 1 or "embedding" in name:
            p.data = torch.randn(p.shape) * 0.5
        else:
            p.data = torch.randn(p.shape) * 1.2 / (p.shape[0] if name.endswith("projection") or name == "visual.proj" else p[0].numel()) ** 0.5
        p.data = p.data.half().double()
    return model.double().eval()


def unit(x):
    return x / x.norm(dim=-1, keepdim=True)


def write(folder, model, encode_text, encode_image, scale):
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float32)
    with torch.no_grad():
        texts = encode_text(TEXTS)
        classes = unit(torch.stack([unit(encode_text([t.format(c) for t in TEMPLATES])).mean(0) for c in CLASSES]))
        image = encode_image(images.double())
        logits = scale.exp() * unit(image) @ classes.T
    for name, value in (("text_embeds", texts), ("class_embeds", classes), ("input", images), ("image_embeds", image), ("logits", logits)):
        np.save(folder / f"{name}.npy", value.numpy().astype(np.float32))
    (folder / "texts.json").write_text(json.dumps({"texts": TEXTS, "classes": CLASSES, "templates": TEMPLATES}, ensure_ascii=False))
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors", {"format": "pt"})


def fresh(name):
    shutil.rmtree(OUT / name, ignore_errors=True)
    (OUT / name).mkdir()
    return OUT / name


def make_transformers(tokenizer):
    folder = fresh("hf")
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, **ends}
    vision = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    model = randomize(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=20)))

    def encode_text(texts):
        ids = tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
        return model.text_projection(model.text_model(**ids).pooler_output)

    def encode_image(images):
        return model.visual_projection(model.vision_model(pixel_values=images).pooler_output)

    model.config.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 32}, "resample": 3, "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32}, "do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True, "do_convert_rgb": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711]}))
    shutil.copy(OUT / "tokenizer.json", folder)
    write(folder, model, encode_text, encode_image, model.logit_scale)


def make_open_clip(tokenizer):
    folder = fresh("open_clip")
    config = {"embed_dim": 20, "quick_gelu": True, "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
              "text_cfg": {"context_length": 77, "vocab_size": len(tokenizer), "width": 32, "heads": 2, "layers": 2}}
    model = randomize(open_clip.model.CLIP(**json.loads(json.dumps(config))))

    def encode_text(texts):
        return model.encode_text(tokenizer(texts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")["input_ids"])

    preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711], "interpolation": "bicubic",
                  "resize_mode": "shortest"}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}, indent=1))
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(OUT / name, folder)
    write(folder, model, encode_text, model.encode_image, model.logit_scale)
    (folder / "model.safetensors").rename(folder / "open_clip_model.safetensors")


if __name__ == "__main__":
    clip = CLIPTokenizer.from_pretrained(OUT)
    make_transformers(clip)
    make_open_clip(clip)
