"""What becomes of image files and of Pillow's images."""

import subprocess
import sys

import numpy as np
import pytest
from conftest import DEMO, QBIN
from PIL import Image

import vitrun

RGB = np.random.default_rng(3).integers(0, 256, (40, 30, 3), np.uint8)


def same(model, image, rgb):
    np.testing.assert_array_equal(model.logits(image), model.logits(np.ascontiguousarray(rgb)))


# Turning upright pixels by these makes an image that the EXIF orientation turns upright again (TIFF 6.0, tag 274).
STORED = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
          5: lambda x: x.transpose(1, 0, 2), 6: lambda x: np.rot90(x), 7: lambda x: x[::-1, ::-1].transpose(1, 0, 2),
          8: lambda x: np.rot90(x, -1)}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(model, tmp_path, orientation):
    exif = Image.Exif()
    exif[274] = orientation
    path = tmp_path / "turned.png"
    Image.fromarray(np.ascontiguousarray(STORED[orientation](RGB))).save(path, exif=exif)
    same(model, path, RGB)
    same(model, Image.open(path), RGB)


def test_alpha_is_dropped_and_grey_repeated(model):
    alpha = np.concatenate([RGB, np.full((40, 30, 1), 9, np.uint8)], axis=2)
    same(model, Image.fromarray(alpha), RGB)
    same(model, Image.fromarray(RGB[:, :, 0]), np.repeat(RGB[:, :, :1], 3, axis=2))


def test_16_bit_grey_is_its_high_byte(model, tmp_path):
    grey = RGB[:, :, 0].astype(np.uint16) * 256 + 77
    Image.fromarray(grey).save(tmp_path / "grey.png")
    same(model, Image.fromarray(grey), np.repeat(RGB[:, :, :1], 3, axis=2))
    same(model, tmp_path / "grey.png", np.repeat(RGB[:, :, :1], 3, axis=2))


def test_modes_without_a_range_are_refused(model):
    for mode in ("I", "F"):
        with pytest.raises(vitrun.Error, match=f"mode {mode} .*no known range"):
            model.predict(Image.new(mode, (8, 8)))


def test_an_open_image_is_left_as_it_was(model):
    with Image.open(DEMO) as image:
        model.predict(image)
        assert image.mode == "RGB" and image.size == Image.open(DEMO).size


def test_without_pillow_arrays_work_and_files_say_what_is_missing():
    program = f"""
import sys
sys.modules["PIL"] = None
import numpy, vitrun
model = vitrun.Model({str(QBIN)!r})
assert len(model.predict(numpy.zeros((8, 8, 3), numpy.uint8))) == 5
try:
    model.predict("cat.jpg")
except vitrun.Error as error:
    assert "cat.jpg: image files need Pillow: pip install 'vitrun[images]'" == str(error), error
    print("refused")
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "refused\n"
