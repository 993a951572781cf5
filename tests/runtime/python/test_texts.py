"""Texts in Python: the program's bits, and refusals. test_capi_text.cc compares the C library with transformers."""

import json
import subprocess

import numpy as np
import pytest
from conftest import BUILD, ROOT

import vitrun

CLIP = ROOT / "tests/golden/clip/hf"
NAMES = ["cat", "dog", "a red car", "Größe"]


@pytest.fixture(scope="module")
def clip(small_clip):
    with vitrun.Model(small_clip / "clip.qbin", threads=1) as opened:
        yield opened


def test_classes_by_name_answer_as_the_program(clip, pictures):
    assert clip.takes_texts and clip.classes == 0
    found = clip.zero_shot(pictures, NAMES, topk=4)
    printed = subprocess.run([BUILD / "vitrun", "-m", clip.path, "--classes", ",".join(NAMES), "--topk", "4", "--json", *pictures],
                             check=True, capture_output=True, text=True).stdout
    for ours, theirs in zip(found, json.loads(printed)["images"], strict=True):
        assert [(p.class_index, p.label) for p in ours] == [(t["class"], t["label"]) for t in theirs["top"]]
        assert [p.logit for p in ours] == [np.float32(t["logit"]) for t in theirs["top"]]
    vectors = clip.class_vectors(NAMES)
    assert clip.zero_shot(pictures, NAMES, vectors, topk=4) == found
    assert clip.zero_shot(pictures[1], NAMES, vectors, topk=1) == found[1][:1]


def test_embeddings_of_texts(clip):
    texts = json.loads((CLIP / "texts.json").read_text())["texts"]
    rows, wanted = clip.text_embedding(texts), np.load(CLIP / "text_embeds.npy")
    assert rows.dtype == np.float32 and rows.shape == wanted.shape
    assert np.linalg.norm(rows - wanted) < 0.06 * np.linalg.norm(wanted)
    np.testing.assert_array_equal(clip.text_embedding(texts[1]), rows[1])
    np.testing.assert_allclose(np.linalg.norm(clip.class_vectors(NAMES), axis=1), 1, atol=1e-6)
    one = clip.class_vectors(["cat"], ["{}"])[0]
    alone = clip.text_embedding("cat")
    np.testing.assert_allclose(one, alone / np.linalg.norm(alone), atol=1e-6)


def test_texts_are_refused_with_the_reason(clip, model, pictures):
    for call, message in [
        (lambda: model.text_embedding("cat"), "holds no text tower"),
        (lambda: model.zero_shot(pictures[0], NAMES), "holds no text tower"),
        (lambda: clip.text_embedding([]), "there is no text"),
        (lambda: clip.text_embedding("a\0b"), "a text has a NUL"),
        (lambda: clip.class_vectors("cat"), "a list of str"),
        (lambda: clip.class_vectors(["cat"], ["a photo"]), "template 0 has no {}"),
        (lambda: clip.class_vectors([""]), "NULL or empty"),
        (lambda: clip.zero_shot(pictures[0], NAMES, np.zeros((3, 20))), r"are \[4, 20\], got \[3, 20\]"),
    ]:
        with pytest.raises(vitrun.Error, match=message):
            call()
    assert not model.takes_texts
