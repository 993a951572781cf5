"""Small random models of every family and variant, with what timm, transformers and open_clip give.

    pip install torch timm transformers open_clip_torch safetensors
    python3 make_families.py [PATTERN...]     # writes families/ beside this file

Made with torch 2.14, timm 1.0.31, transformers 5.24 and open_clip 3.3. families/list.txt has a line for
each model, which begins with its folder; a folder holds the weights and configurations as the library's
hub has them, and embedding.npy, features.npy and, of a model with a head, logits.npy, for the two images
of families/images_HxW.npy. With PATTERNs only the folders that fit one are made, and the list is written
whole.
"""
import fnmatch
import pathlib
import shutil
import sys

import numpy as np
import torch

import library_models as lib
from family_cases import MODELS, REFUSED, RESIZED

OUT = pathlib.Path(__file__).parent / "families"


def write_images(size):
    path = OUT / f"images_{size[0]}x{size[1]}.npy"
    if not path.exists():
        np.save(path, lib.images(*size).numpy())


def write_outputs(folder, outputs):
    for name, value in outputs.items():
        assert np.isfinite(value).all() and value.std() > 1e-4 and not np.allclose(value[0], value[1]), (folder, name)
        np.save(OUT / folder / f"{name}.npy", value.astype(np.float32))


def write_text(folder, model):
    """Tokens and what the text tower makes of them; 3 sequences, each with its end token."""
    config = model.config.text_config
    ids = torch.randint(3, config.vocab_size - 1, (3, config.max_position_embeddings),
                        generator=torch.Generator().manual_seed(5))
    for row, end in zip(ids, (3, 6, config.max_position_embeddings - 1)):
        row[0], row[end:] = config.bos_token_id, config.eos_token_id
    with torch.no_grad():
        embeds = model.text_projection(model.text_model(input_ids=ids).pooler_output)
    np.save(OUT / folder / "input_ids.npy", ids.numpy().astype(np.float32))
    np.save(OUT / folder / "text_embeds.npy", embeds.numpy().astype(np.float32))


def fresh(folder):
    shutil.rmtree(OUT / folder, ignore_errors=True)
    (OUT / folder).mkdir()


def make_model(case):
    model = case.make()
    fresh(case.name)
    if not case.weights:
        lib.save_model(model, OUT / case.name, case.config)
    if case.after:
        case.after(OUT / case.name)
    write_images(case.size)
    outputs = lib.outputs_of(case.resize(model), lib.images(*case.size))
    write_outputs(case.name, outputs)
    if case.text:
        write_text(case.name, model)
    return sorted(outputs)


def outputs_there(case):
    return sorted(f.stem for f in (OUT / case.name).glob("*.npy") if f.stem in ("embedding", "features", "logits"))


def make_refused(case):
    fresh(case.name)
    lib.save_model(case.make(), OUT / case.name, case.config)


def wanted(name, patterns):
    return not patterns or any(fnmatch.fnmatch(name, p) for p in patterns)


def lines_of(patterns):
    for state, cases in (("right", MODELS), ("resized", RESIZED)):
        for case in cases:
            outputs = make_model(case) if wanted(case.name, patterns) else outputs_there(case)
            size = "x".join(map(str, case.size))
            yield f"{case.name} {state} {case.weights or case.name} {size} {','.join(outputs)}"
    for case in REFUSED:
        if wanted(case.name, patterns):
            make_refused(case)
        yield f"{case.name} refused {case.word}"


HEAD = """\
# Written by make_families.py. A line is one of
#   FOLDER right FOLDER HxW OUTPUTS        the model runs, and FOLDER/OUTPUT.npy is what it gives
#   FOLDER resized WEIGHTS HxW OUTPUTS     so does the model of the folder WEIGHTS with --image-size of these images
#   FOLDER refused WORDS                   the model is refused with a message that has the words
"""


def main(patterns):
    OUT.mkdir(exist_ok=True)
    lines = list(lines_of(patterns))
    (OUT / "list.txt").write_text(HEAD + "\n".join(lines) + "\n")
    known = {line.split()[0] for line in lines}
    for folder in OUT.iterdir():
        if folder.is_dir() and folder.name not in known:
            shutil.rmtree(folder)
    print(len(lines), "models,", sum(f.stat().st_size for f in OUT.rglob("*") if f.is_file()), "bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
