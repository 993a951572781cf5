"""The package's answers are those of the program vitrun, to the bit."""

import json
import subprocess

import numpy as np
import pytest
from conftest import BUILD, QBIN
from PIL import Image

import vitrun

OUTPUTS = ["logits", "embedding", "features"]


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


@pytest.mark.parametrize("output", OUTPUTS)
def test_files_answer_as_the_program(model, program, pictures, output):
    theirs = program(output, *pictures)
    np.testing.assert_array_equal(getattr(model, output)(pictures), theirs)
    assert theirs.shape == (5, *model.outputs[output])


@pytest.mark.parametrize("output", OUTPUTS)
def test_floats_answer_as_the_program(model, program, normalised, tmp_path, output):
    np.save(tmp_path / "x.npy", normalised)
    np.testing.assert_array_equal(getattr(model, output)(normalised), program(output, "--raw", tmp_path / "x.npy"))


def test_every_kind_of_one_image_gives_the_same(model, pictures):
    path = pictures[2]
    rgb = pixels(path)
    wanted = model.logits(path)
    assert wanted.shape == (10,) and wanted.dtype == np.float32
    strided = np.zeros((94, 61, 3), np.uint8)
    strided[::2] = rgb
    for image in (str(path), Image.open(path), rgb, np.asfortranarray(rgb), strided[::2]):
        np.testing.assert_array_equal(model.logits(image), wanted)


def test_every_kind_of_several_images_gives_the_rows_of_each(model, pictures, normalised):
    one = model.logits(pictures[1])
    rgb = pixels(pictures[1])
    for images in ([pictures[1]] * 2, (rgb, str(pictures[1])), np.stack([rgb, rgb])):
        np.testing.assert_array_equal(model.logits(images), [one, one])
    np.testing.assert_array_equal(model.logits(list(normalised)), model.logits(normalised))
    np.testing.assert_array_equal(model.logits(normalised[4]), model.logits(normalised)[4])
    assert model.logits(normalised[:1]).shape == (1, 10)
    assert model.logits([]).shape == (0, 10) and model.predict([]) == []
    assert model.features(normalised[:0]).shape == (0, 65, 128)


def test_one_pass_gives_several_outputs(model, normalised):
    got = model.run(normalised, OUTPUTS)
    assert list(got) == OUTPUTS
    for name in OUTPUTS:
        np.testing.assert_array_equal(got[name], getattr(model, name)(normalised))


def test_predictions_are_those_of_the_program(model, pictures):
    printed = subprocess.run([BUILD / "vitrun", "--model", QBIN, "--topk", "3", "--json", *pictures], check=True,
                             capture_output=True).stdout
    theirs = json.loads(printed)["images"]
    assert len(theirs) == len(pictures)
    for ours, theirs in zip(model.predict(pictures, topk=3), theirs):
        assert [p.class_index for p in ours] == [t["class"] for t in theirs["top"]]
        assert [p.label for p in ours] == [t["label"] for t in theirs["top"]]
        assert [np.float32(p.logit) for p in ours] == [np.float32(t["logit"]) for t in theirs["top"]]
        assert [np.float32(p.probability) for p in ours] == [np.float32(t["probability"]) for t in theirs["top"]]


def test_predictions_are_the_softmax_in_order(model, normalised):
    logits = model.logits(normalised[0]).astype(np.float64)
    softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    got = model.predict(normalised[0], topk=100)
    assert [p.class_index for p in got] == list(np.argsort(-logits, kind="stable"))
    np.testing.assert_allclose([p.probability for p in got], np.sort(softmax)[::-1], rtol=1e-6)
    assert got[0]._fields == ("class_index", "label", "probability", "logit")
    assert len(model.predict(normalised[0])) == 5 and len(model.predict(normalised[0], 1)) == 1


def test_threads_and_isa_change_nothing(model, normalised):
    wanted = model.features(normalised)
    for threads, isa in ((2, None), (3, "scalar"), (0, vitrun.isa_names()[0])):
        with vitrun.Model(QBIN, threads=threads, isa=isa) as other:
            np.testing.assert_array_equal(other.features(normalised), wanted)
