"""embed_folder.py with two local Dask workers: restarts, bad images, another model."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from conftest import DEMO, QBIN, ROOT
from dask.distributed import LocalCluster

SCRIPT = ROOT / "runtime/python/examples/embed_folder.py"


@pytest.fixture
def folder(tmp_path, pictures):
    """vit.qbin, and pictures/ with seven images, one of them cut, beside folders that do not count."""
    shutil.copy(QBIN, tmp_path / "vit.qbin")
    for name in ("pictures/inner", "pictures/.ipynb_checkpoints", "pictures/__MACOSX"):
        (tmp_path / name).mkdir(parents=True)
    for i, path in enumerate(pictures):
        shutil.copy(path, tmp_path / f"pictures/inner/{i}.png")
    shutil.copy(DEMO, tmp_path / "pictures/demo.JPG")
    (tmp_path / "pictures/cut.jpg").write_bytes(DEMO.read_bytes()[:300])
    shutil.copy(DEMO, tmp_path / "pictures/.ipynb_checkpoints/demo.jpg")
    shutil.copy(DEMO, tmp_path / "pictures/__MACOSX/demo.jpg")
    (tmp_path / "pictures/notes.txt").write_text("no image")
    return tmp_path


def embed(folder, *options):
    command = [sys.executable, SCRIPT, "vit.qbin", "pictures/", "vectors/", "--workers", "2", "--part", "2", *options]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


def test_a_folder_is_embedded_once_with_a_row_for_each_image(folder, model):
    done = embed(folder)
    assert done.returncode == 1 and "0 of 4 parts are done" in done.stdout, done.stderr
    assert "1 images could not be read" in done.stderr
    vectors = folder / "vectors"
    paths = [path for part in sorted(vectors.glob("part-*.json")) for path in json.loads(part.read_text())]
    rows = np.concatenate([np.load(part) for part in sorted(vectors.glob("part-*.npy"))])
    pictures = folder / "pictures"
    images = [pictures / "demo.JPG", *(pictures / f"inner/{i}.png" for i in range(5))]
    assert paths == sorted(map(str, [*images, pictures / "cut.jpg"]))
    assert np.isnan(rows[0]).all() and (vectors / "part-00000.errors").read_text().startswith(f"{pictures}/cut.jpg: ")
    np.testing.assert_array_equal(rows[1:], model.embedding(images))

    page = (ROOT / "docs/at-scale.md").read_text()
    reading = re.search(r"^```python\n(.*?)^```", page, re.M | re.S).group(1)
    printed = subprocess.run([sys.executable, "-c", reading], cwd=folder, capture_output=True, text=True).stdout
    assert printed == "6 of 7 images have a vector of 128\n"

    # Started again it makes what is missing and nothing else.
    (vectors / "part-00002.npy").unlink()
    kept = (vectors / "part-00001.npy").stat()
    done = embed(folder)
    assert done.returncode == 1 and "3 of 4 parts are done" in done.stdout
    assert done.stdout.count("part-") == 1 and "part-00002: 2 images, 0 unreadable" in done.stdout
    assert (vectors / "part-00001.npy").stat() == kept
    np.testing.assert_array_equal(np.concatenate([np.load(part) for part in sorted(vectors.glob("part-*.npy"))]), rows)

    # Another model, or another size of parts, is not mixed in.
    assert "holds another" in embed(folder, "--part", "3").stderr
    (folder / "vit.qbin").write_bytes(QBIN.read_bytes() + bytes(64))
    assert "holds another" in embed(folder).stderr


def test_a_running_scheduler_is_used(folder, model):
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None) as cluster:
        done = embed(folder, "--scheduler", cluster.scheduler_address)
    assert "part-00003: 1 images, 0 unreadable" in done.stdout, done.stderr
    np.testing.assert_array_equal(np.load(folder / "vectors/part-00003.npy"),
                                  model.embedding([folder / "pictures/inner/4.png"]))


def test_a_folder_without_images_is_said(folder):
    shutil.rmtree(folder / "pictures")
    done = embed(folder)
    assert done.returncode == 1 and "pictures: no images in it" in done.stderr
