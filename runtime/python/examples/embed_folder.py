#!/usr/bin/env python3
"""embed_folder.py MODEL IMAGES OUT: embeds all images of a folder with Dask (docs/at-scale.md).

OUT/part-00000.json lists images, OUT/part-00000.npy has a row for each, NaN where an image cannot be read, and
OUT/part-00000.errors says why. Started again, it makes the parts that have no .npy yet.
"""
import argparse, hashlib, json, pathlib, sys, uuid

import numpy as np
import vitrun
from dask.distributed import Client, WorkerPlugin, as_completed, get_worker

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
NO_FOLDERS = (".", "__MACOSX", "@eaDir")  # nobody's images are in them


class OpenModel(WorkerPlugin):  # once in each worker, also in one that joins later
    def __init__(self, path):
        self.path = path

    def setup(self, worker):
        worker.model = vitrun.Model(self.path, threads=1)


def embed_part(part):
    model, images, errors = get_worker().model, json.loads(part.read_text()), []
    rows = np.full((len(images), *model.outputs["embedding"]), np.nan, np.float32)
    for row, image in zip(rows, images):
        try:
            row[:] = model.embedding(image)
        except vitrun.Error as error:
            errors.append(str(error))
    part.with_suffix(".errors").write_text("".join(error.replace("\n", " ") + "\n" for error in errors), errors="replace")
    unfinished = part.with_suffix(f".{uuid.uuid4().hex}.npy")
    np.save(unfinished, rows)
    unfinished.replace(part.with_suffix(".npy"))  # the last step: the part is done
    return f"{part.stem}: {len(images)} images, {len(errors)} unreadable"


def list_parts(model, images, out, size):
    """The images are listed once: started again, the job takes the same parts, and no other model or folder."""
    job = {"model": hashlib.sha256(model.read_bytes()).hexdigest(), "images": str(images), "part": size}
    if not (out / "job.json").exists():
        found = sorted(str(f) for f in images.rglob("*") if f.suffix.lower() in SUFFIXES and
                       not any(name.startswith(NO_FOLDERS) for name in f.relative_to(images).parts))
        out.mkdir(parents=True, exist_ok=True)
        for i in range(0, len(found), size):
            (out / f"part-{i // size:05}.json").write_text(json.dumps(found[i:i + size]))
        (out / "job.json").write_text(json.dumps(job))
    if json.loads((out / "job.json").read_text()) != job:
        sys.exit(f"{out} holds another model's, folder's or size's parts: {(out / 'job.json').read_text()}")
    return sorted(out.glob("part-*.json")) or sys.exit(f"{images}: no images in it")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "images", "out"):
        parser.add_argument(name, type=lambda path: pathlib.Path(path).resolve())
    parser.add_argument("--part", type=int, default=1000, help="images in a part")
    parser.add_argument("--workers", type=int, help="processes on this machine; default: as many as CPUs")
    parser.add_argument("--scheduler", help="address of a running Dask scheduler, whose workers are used instead")
    args = parser.parse_args()
    parts = list_parts(args.model, args.images, args.out, args.part)
    left = [part for part in parts if not part.with_suffix(".npy").exists()]
    print(f"{len(parts) - len(left)} of {len(parts)} parts are done")
    with Client(args.scheduler) if args.scheduler else Client(n_workers=args.workers, threads_per_worker=1) as client:
        client.register_plugin(OpenModel(str(args.model)))
        for _, done in as_completed(client.map(embed_part, left, pure=False), with_results=True):
            print(done, flush=True)
    bad = sum(len(part.with_suffix(".errors").read_text().splitlines()) for part in parts)
    sys.exit(f"{bad} images could not be read; {args.out}/*.errors says which and why" if bad else 0)
