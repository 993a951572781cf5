"""The Python blocks of docs/python.md run as they stand, in order, and the package is typed."""

import re
import shutil
import subprocess
import sys

import pytest
from conftest import DEMO, QBIN, ROOT
from PIL import Image

import vitrun


def blocks(page, language):
    return re.findall(rf"^```{language}[^\n]*\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.M | re.S)


@pytest.fixture
def folder(tmp_path, monkeypatch, street, small_clip):
    """A working folder with the files that the pages name."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(QBIN, "vit.qbin")
    shutil.copy(DEMO, "cat.jpg")
    shutil.copy(DEMO, "dog.jpg")
    shutil.copy(street / "street.qbin", "street.qbin")
    Image.open(street / "street.png").save("street.jpg")
    shutil.copy(small_clip / "clip.qbin", "clip.qbin")
    return tmp_path


def test_the_page_runs(folder, capsys):
    names = {}
    for block in blocks("python.md", "python"):
        exec(block, names)
    printed = capsys.readouterr().out
    assert re.search(r"^ *\d+\.\d%  +\d+  ship$", printed, re.M)
    assert "missing.jpg: cannot open: No such file or directory" in printed
    assert names["best_of_each"] == ["ship", "ship"] and len(names["answers"]) == 16
    assert names["vectors"].shape == (2, 128) and names["tokens"].shape == (65, 128)


def test_the_docstring_runs(folder, capsys):
    exec("\n".join(re.findall(r"^    (.*)$", vitrun.__doc__, re.M)), {})
    assert "ship" in capsys.readouterr().out


def test_the_benchmark_runs():
    command = [sys.executable, ROOT / "bench/python_threads.py", "--model", QBIN, "--threads", "2", "--rounds", "1", "--images", "3"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.search(r"^ +ratio +\d+\.\d\d ", printed, re.M)


def test_the_package_and_its_use_are_typed(tmp_path):
    use = tmp_path / "use.py"
    use.write_text("""
import pathlib
import numpy as np
import vitrun
from typing import Optional
from typing_extensions import assert_type

model = vitrun.Model(pathlib.Path("vit.qbin"), threads=1)
assert_type(model.predict("cat.jpg"), list[vitrun.Prediction])
assert_type(model.predict(pathlib.Path("cat.jpg"), topk=3), list[vitrun.Prediction])
assert_type(model.predict(["cat.jpg", "dog.jpg"]), list[list[vitrun.Prediction]])
assert_type(model.predict("cat.jpg")[0].label, Optional[str])
vector: "np.typing.NDArray[np.float32]" = model.embedding(np.zeros((8, 8, 3), np.uint8))
model.predict(3)  # refused
""")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path / "cache"]
    done = subprocess.run([*mypy, use], cwd=tmp_path, capture_output=True, text=True)
    assert "use.py:14: error: No overload variant" in done.stdout and "Found 1 error" in done.stdout, done.stdout
    done = subprocess.run([*mypy, ROOT / "runtime/python/vitrun"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
