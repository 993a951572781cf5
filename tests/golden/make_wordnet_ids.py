"""Makes runtime/vision/wordnet_ids.def: the WordNet ids of ImageNet-1k's classes, in their order.

Run from anywhere: python3 tests/golden/make_wordnet_ids.py [timm-*.whl]  (timm, Apache License 2.0)

The ids are those of timm's imagenet_synsets.txt, from the installed package or from its wheel.
"""

import importlib.util
import sys
import textwrap
import zipfile
from pathlib import Path

NAME = "data/_info/imagenet_synsets.txt"
OUT = Path(__file__).parents[2] / "runtime/vision/wordnet_ids.def"


def synsets():
    if len(sys.argv) > 1:
        return zipfile.ZipFile(sys.argv[1]).read(f"timm/{NAME}").decode().split()
    package = Path(importlib.util.find_spec("timm").submodule_search_locations[0])
    return (package / NAME).read_text().split()


if __name__ == "__main__":
    ids = synsets()
    assert len(ids) == 1000 and all(len(i) == 9 and i[0] == "n" for i in ids)
    text = ", ".join(i[1:].lstrip("0") for i in ids) + ","
    OUT.write_text("// Made by tests/golden/make_wordnet_ids.py: the numbers of the ids nNNNNNNNN, in order.\n"
                   + "\n".join(textwrap.wrap(text, 100)) + "\n")
