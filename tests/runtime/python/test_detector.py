"""Detector finds what the program vitrun finds, with the same masks."""

import json
import pickle
import subprocess

import numpy as np
import pytest
from conftest import BUILD, QBIN
from PIL import Image

import vitrun


@pytest.fixture(scope="module")
def detector(street):
    with vitrun.Detector(street / "street.qbin", threads=1) as opened:
        yield opened


def decoded(counts, height, width):
    """COCO's "counts" as bool [height, width]: runs in groups of 5 bits, from the fourth on less the run two before."""
    runs, at = [], 0
    while at < len(counts):
        value = shift = 0
        more = True
        while more:
            part = ord(counts[at]) - 48
            value |= (part & 31) << shift
            at, shift, more = at + 1, shift + 5, bool(part & 32)
            if not more and part & 16:
                value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return pixels.reshape(width, height).T


def test_it_finds_what_the_program_finds(detector, street):
    image = street / "street.png"
    printed = subprocess.run([BUILD / "vitrun", "--model", street / "street.qbin", "--json", image], check=True,
                             capture_output=True).stdout
    theirs = json.loads(printed)["detections"]
    ours = detector.detect(image)
    assert len(ours) == len(theirs) > 3
    for d, t in zip(ours, theirs):
        assert (d.class_index, d.label, d.counts) == (t["class"], t["label"], t["mask"]["counts"])
        assert d.score == pytest.approx(t["score"], abs=1e-6) and d.box == pytest.approx(t["box"], abs=1e-4)
        np.testing.assert_array_equal(d.mask, decoded(d.counts, *t["mask"]["size"]))


def test_every_kind_of_image_and_several_give_the_same(detector, street):
    pixels = np.asarray(Image.open(street / "street.png").convert("RGB"))
    want = detector.detect(pixels)
    for given in (street / "street.png", str(street / "street.png"), Image.fromarray(pixels), pixels[:, ::-1][:, ::-1]):
        assert [d[:4] for d in detector.detect(given)] == [d[:4] for d in want]
    many = detector.detect([pixels, np.full((40, 50, 3), 127, np.uint8), pixels])
    assert [d[:4] for d in many[2]] == [d[:4] for d in want] == [d[:4] for d in many[0]]
    assert all(d.mask.shape == (40, 50) for d in many[1])
    assert detector.detect([]) == []


def test_threads_isa_and_a_pickle_change_nothing(detector, street):
    want = [d[:4] for d in detector.detect(street / "street.png")]
    for threads, isa in ((2, None), (3, "scalar")):
        with vitrun.Detector(street / "street.qbin", threads=threads, isa=isa) as other:
            assert [d[:4] for d in other.detect(street / "street.png")] == want
    assert [d[:4] for d in pickle.loads(pickle.dumps(detector)).detect(street / "street.png")] == want


def test_what_it_says_about_itself(detector):
    assert (detector.name, detector.classes, detector.labels) == ("mask_rcnn", 3, ["person", "bicycle", "car"])
    assert 0 < detector.memory_for(96, 64) < 100e6
    assert "mask_rcnn, 3 classes" in repr(detector)
    assert detector.metadata("detector.stages") == "1"


def test_refusals(detector, street):
    with pytest.raises(vitrun.Error, match="vit_detector_create"):
        vitrun.Model(street / "street.qbin")
    with pytest.raises(vitrun.Error, match="is no detector"):
        vitrun.Detector(QBIN)
    with pytest.raises(vitrun.Error, match="uint8 pixels"):
        detector.detect(np.zeros((3, 64, 96), np.float32))
    with pytest.raises(vitrun.Error, match="no image has the size"):
        detector.memory_for(1, 1 << 20)
    closed = vitrun.Detector(street / "street.qbin")
    closed.close()
    with pytest.raises(vitrun.Error, match="closed"):
        closed.detect(np.zeros((4, 4, 3), np.uint8))
