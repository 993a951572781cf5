"""What the tests of the Python package share. The package is the installed one; the environment's VITRUN_BUILD is the folder
of the built programs (make check-python sets it)."""

import os
import pathlib
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

import vitrun

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("VITRUN_BUILD", ROOT / "build"))
QBIN = ROOT / "models/cifar10/vit.qbin"
DEMO = ROOT / "models/cifar10/demo.jpg"


@pytest.fixture(scope="session")
def model():
    with vitrun.Model(QBIN, threads=1) as opened:
        yield opened


@pytest.fixture
def program(tmp_path):
    """Runs the program vitrun on a file and returns the array that --logits, --embedding or --features writes."""

    def run(output, *arguments):
        written = tmp_path / f"{output}.npy"
        subprocess.run([BUILD / "vitrun", "--model", QBIN, f"--{output}", written, *arguments], check=True,
                       stdout=subprocess.DEVNULL)
        return np.load(written)

    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Paths of five PNG files of different sizes, whose pixels every decoder agrees on."""
    folder = tmp_path_factory.mktemp("pictures")
    demo = Image.open(DEMO).convert("RGB")
    paths = []
    for i, size in enumerate([demo.size, (32, 32), (61, 47), (20, 90), (300, 200)]):
        paths.append(folder / f"{i}.png")
        demo.rotate(20 * i).resize(size).save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def normalised():
    """float32 [6, 3, 32, 32], normalised."""
    return np.random.default_rng(7).standard_normal((6, 3, 32, 32)).astype(np.float32)


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    """A folder with street.qbin, a small random detector, and street.png, on which it finds something."""
    folder = tmp_path_factory.mktemp("street")
    golden = ROOT / "tests/golden/detectors/mask"
    shutil.copy(golden / "image.png", folder / "street.png")
    subprocess.run([BUILD / "vitquant", "--weights", golden, "--calib", golden, "-o", folder / "street.qbin"], check=True,
                   capture_output=True)
    return folder


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """A folder with clip.qbin, a small random CLIP with both towers."""
    folder = tmp_path_factory.mktemp("clip")
    golden = ROOT / "tests/golden/clip/hf"
    subprocess.run([BUILD / "vitquant", "--weights", golden, "--calib-raw", golden / "input.npy", "-o", folder / "clip.qbin"],
                   check=True, capture_output=True)
    return folder
