"""What the package refuses, and with which words."""

import numpy as np
import pytest
from conftest import DEMO, QBIN

import vitrun


def refuses(words, status, call, *arguments, **options):
    with pytest.raises(vitrun.Error, match=words) as caught:
        call(*arguments, **options)
    assert caught.value.status == status


def test_files_that_are_no_model(tmp_path):
    refuses("nowhere.qbin: cannot open.*No such file", "VIT_ERROR_FILE", vitrun.Model, tmp_path / "nowhere.qbin")
    cut = tmp_path / "cut.qbin"
    cut.write_bytes(QBIN.read_bytes()[:-1000])
    refuses("cut.qbin: ", "VIT_ERROR_MODEL", vitrun.Model, cut)
    refuses("demo.jpg: ", "VIT_ERROR_MODEL", vitrun.Model, DEMO)
    refuses("NUL", "VIT_ERROR_ARGUMENT", vitrun.Model, f"{QBIN}\0.qbin")


def test_verify_finds_a_flipped_weight(tmp_path):
    flipped = bytearray(QBIN.read_bytes())
    flipped[-5000] ^= 1
    (tmp_path / "flipped.qbin").write_bytes(flipped)
    refuses("flipped.qbin: .*checksum", "VIT_ERROR_MODEL", vitrun.Model, tmp_path / "flipped.qbin", verify=True)
    vitrun.Model(QBIN, verify=True).close()


def test_options_out_of_range(model):
    for threads in (-1, 257, 2**32 + 1):
        refuses(f"threads must be 0 to 256, got {threads}", "VIT_ERROR_ARGUMENT", vitrun.Model, QBIN, threads=threads)
    refuses("no instruction set mmx here, only .*scalar", "VIT_ERROR_ARGUMENT", vitrun.Model, QBIN, isa="mmx")
    for topk in (0, -3):
        refuses(f"topk must be 1 .*got {topk}", "VIT_ERROR_ARGUMENT", model.predict, np.zeros((8, 8, 3), np.uint8), topk)
    refuses("no output 'tokens', only logits, embedding, features", "VIT_ERROR_ARGUMENT", model.run, [], ["tokens"])
    with pytest.raises(TypeError):
        vitrun.Model(QBIN, threads=1.5)


@pytest.mark.parametrize("image, words", [
    (np.zeros((3, 32, 32)), "uint8 .pixels. or float32 .normalised., got float64"),
    (np.zeros((3, 32, 32), np.float16), "got float16"),
    (np.zeros((3, 32, 32), ">f4"), "got >f4"),
    (np.zeros((3, 32, 32), np.int64), "got int64"),
    (np.zeros((3, 32, 33), np.float32), r"of this model is \[3, 32, 32\], got \[3, 32, 33\]"),
    (np.zeros((32, 32, 3), np.float32), r"got \[32, 32, 3\]"),
    (np.zeros((2, 1, 32, 32), np.float32), r"got \[1, 32, 32\]"),
    (np.zeros((3, 32, 32), np.uint8), r"pixels are \[height, width, 3\], got \[3, 32, 32\]"),
    (np.zeros((32, 32, 4), np.uint8), r"got \[32, 32, 4\]"),
    (np.zeros((0, 32, 3), np.uint8), "1 to 32768 pixels wide and high, got 32 x 0"),
    (np.zeros((1, 40000, 3), np.uint8), "got 40000 x 1"),
    (np.zeros((32, 32), np.uint8), r"got an array \[32, 32\]"),
    (np.float32(3), "got float32"),
    (None, "got NoneType"),
    ([None], "got NoneType"),
    ([["a.jpg"]], "got list"),
    ((i for i in range(3)), "got generator"),
])
def test_images_of_a_wrong_type_or_shape(model, image, words):
    refuses(words, "VIT_ERROR_ARGUMENT", model.predict, image)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_floats_that_are_not_finite(model, normalised, value):
    bad = normalised.copy()
    bad[2, 1, 5, 5] = value
    refuses("not finite", "VIT_ERROR_ARGUMENT", model.predict, bad)
    model.predict(normalised)  # the session is as good as before


def test_image_files_that_cannot_be_read(model, tmp_path):
    refuses("cat.jpg: cannot open: No such file", "VIT_ERROR_FILE", model.predict, [DEMO, tmp_path / "cat.jpg"])
    (tmp_path / "cut.jpg").write_bytes(DEMO.read_bytes()[:400])
    refuses("cut.jpg: ", "VIT_ERROR_FILE", model.predict, tmp_path / "cut.jpg")
    (tmp_path / "page.png").write_text("<!DOCTYPE html>")
    refuses("page.png: ", "VIT_ERROR_FILE", model.predict, tmp_path / "page.png")
    refuses(": ", "VIT_ERROR_FILE", model.predict, tmp_path)
