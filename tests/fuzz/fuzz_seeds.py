#!/usr/bin/env python3
"""Writes small seeds for the fuzz targets: a folder a target, and dictionaries of JSON's keys.

Usage: fuzz_seeds.py GOLDEN_DIR CORPUS_DIR
"""
import json
import pathlib
import random
import re
import struct
import sys
import zlib

golden, corpus = map(pathlib.Path, sys.argv[1:])


def write(target, name, data):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"seed-{name}").write_bytes(data)


def qbin():
    """As runtime/files/qbin.h specifies: a key of each type, a graph, a float tensor and one of packed codes."""
    name = lambda s: struct.pack("<H", len(s)) + s
    text = lambda s: struct.pack("<I", len(s)) + s
    keys = [name(b"i") + b"\x01" + struct.pack("<q", 7), name(b"f") + b"\x02" + struct.pack("<d", 0.5),
            name(b"s") + b"\x03" + text(b"text"), name(b"ii") + b"\x04" + struct.pack("<Iqq", 2, 1, -1),
            name(b"ff") + b"\x05" + struct.pack("<Id", 1, 1.5), name(b"ss") + b"\x06" + struct.pack("<I", 1) + text(b"x")]
    metadata = b"".join(keys)
    floats, packed = struct.pack("<3f", 1, 2, 3), bytes(range(256))
    table = lambda start: (
        name(b"a") + struct.pack("<4BIQQq", 1, 0, 1, 0, zlib.crc32(floats), start, 12, 3) +
        name(b"b") + struct.pack("<4BIQQqq", 7, 4, 2, 0, zlib.crc32(packed), start + 64, 256, 16, 32))
    # An input with two attributes; a sum of it with a unit, a weight and a bias, two of them by other names.
    nodes = [struct.pack("<BBi", 0, 0, -1) + name(b"x") + struct.pack("<3BBdBd", 0, 0, 2, 0, 3, 3, 1),
             struct.pack("<BBi", 8, 11, 0) + name(b"y") + struct.pack("<B", 31) + name(b"u") + name(b"w") +
             struct.pack("<BIIBBd", 2, 0, 0, 1, 15, 2)]
    graphs = (name(b"main") + struct.pack("<I", len(nodes)) + b"".join(nodes) + struct.pack("<H", 1) + name(b"out") +
              struct.pack("<I", 1))
    start = 64 + len(metadata)
    size = (start + len(graphs) + len(table(0)) + 63) // 64 * 64
    head = bytearray(struct.pack("<8sHHIQQQIIQI4x", b"\x89QBN\r\n\x1a\n", 2, 0, 0, size + 320, size, start + len(graphs),
                                 len(keys), 2, start, 1) + metadata + graphs + table(size))
    head = head.ljust(size, b"\0")
    head[12:16] = struct.pack("<I", zlib.crc32(head))
    write("qbin", "small", bytes(head) + floats.ljust(64, b"\0") + packed)


def coded():
    """Bits and count of codes (fuzz_readers.cc), then a weight."""
    blob = (golden / "qbin" / "coded_weight.bin").read_bytes()
    write("coded", "golden", bytes([1, 1003 // 16, 1003 % 16 - 1]) + blob)


def safetensors():
    def pack(header, data):
        text = json.dumps(header).encode()
        return struct.pack("<Q", len(text)) + text + data
    tensors = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, dtype, item in [("a", "F32", b"\0\0\x80\x3f"), ("b", "F16", b"\0\x3c"), ("c", "BF16", b"\x80\x3f"), ("d", "I64", bytes(8))]:
        tensors[name] = {"dtype": dtype, "shape": [2, 1], "data_offsets": [len(data), len(data) + 2 * len(item)]}
        data += 2 * item
    write("safetensors", "types", pack(tensors, data))
    write("safetensors", "one", pack({"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, bytes(4)))


def npy():
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"
    for version in (1, 2, 3):
        length = struct.pack("<H" if version == 1 else "<I", len(header))
        write("npy", version, b"\x93NUMPY" + bytes([version, 0]) + length + header + bytes(24))


def tokenizer():
    """A tokenizer.json of a few tokens, and texts."""
    whole = json.loads((golden / "clip/tokenizer.json").read_text())
    few = ["a", "b", "a</w>", "b</w>", "ab", "ab</w>", "<|startoftext|>", "<|endoftext|>"]
    ids = {text: i for i, text in enumerate(few)}
    whole["model"] |= {"vocab": ids, "merges": [["a", "b"], ["a", "b</w>"]]}
    whole["added_tokens"] = [t | {"id": ids[t["content"]]} for t in whole["added_tokens"]]
    whole["post_processor"] |= {"cls": [few[6], 6], "sep": [few[7], 7]}
    write("tokenizer", "json", json.dumps(whole).encode())
    write("tokenizer", "text", "It's a<|endoftext|>b \u0130 e\u0301 \u4e2d 12 abc".encode())


def config():
    words = {"F32", "F16", "BF16", "dtype", "shape", "data_offsets", "__metadata__"}
    for path in sorted(golden.glob("models/**/*.json")):
        if path.stat().st_size < 4000:
            write("config", path.stem, path.read_bytes())
            words |= set(re.findall(r'"(\w+)"', path.read_text()))
    dictionary = "".join(f'"\\"{word}\\""\n' for word in sorted(words))
    (corpus / "config.dict").write_text(dictionary)
    (corpus / "safetensors.dict").write_text(dictionary)


def images():
    for path in sorted(golden.glob("image/**/*")):
        if path.suffix in (".png", ".jpg", ".bmp", ".gif", ".webp") and path.stat().st_size < 6000:
            write("image", f"{path.parent.name}-{path.name}", path.read_bytes())


def lists():
    write("list", "lines", b"dev/null 3\n\netc/hostname\netc/passwd \t12\r\n")


def coco():
    """Annotations with masks of each form, detections of them, and a line between."""
    box = {"image_id": 1, "category_id": 1, "bbox": [1, 1, 3, 2]}
    polygon, runs, packed = [[1, 1, 4, 1, 4, 3, 1, 3]], {"size": [7, 9], "counts": [8, 3, 52]}, {"size": [7, 9], "counts": "83d1"}
    objects = [box | {"id": i + 1, "area": 6, "iscrowd": i % 2, "segmentation": s} for i, s in enumerate([polygon, runs, packed])]
    sets = json.dumps({"images": [{"id": 1, "width": 9, "height": 7}], "categories": [{"id": 1, "name": "a"}],
                       "annotations": objects})
    found = json.dumps([box | {"score": .5, "segmentation": s} for s in (polygon, runs, packed)])
    for name, data in (("set", sets), ("found", found), ("both", sets + "\n" + found), ("boxes", json.dumps([box | {"score": 1}]))):
        write("coco", name, data.encode())
    words = set(re.findall(r'"(\w+)"', sets + found))
    (corpus / "coco.dict").write_text("".join(f'"\\"{word}\\""\n' for word in sorted(words)))


def graph_section():
    """The number of graphs, then as runtime/files/qbin.h specifies: an input, a window, a linear with a weight of another name."""
    name = lambda s: struct.pack("<H", len(s)) + s
    node = lambda kind, label, flags, names, inputs, attributes: (
        struct.pack("<BBi", kind, 0, -1) + name(label) + bytes([flags]) + b"".join(map(name, names)) +
        bytes([len(inputs)]) + struct.pack(f"<{len(inputs)}I", *inputs) + bytes([len(attributes)]) +
        b"".join(struct.pack("<Bd", a, v) for a, v in attributes))
    nodes = [node(0, b"image", 0, [], [], [(0, 3), (1, 4), (2, 4), (3, 1)]),
             node(2, b"patches", 0, [], [0], [(4, 2), (5, 2), (6, 2)]),
             node(17, b"codes", 4, [], [1], [(28, 8), (21, .02), (29, 128)]),
             node(4, b"head", 1 | 4 | 8 | 16, [b"w"], [2], [])]
    graph = (name(b"main") + struct.pack("<I", len(nodes)) + b"".join(nodes) + struct.pack("<H", 2) +
             name(b"logits") + struct.pack("<I", 3) + name(b"patches") + struct.pack("<I", 1))
    write("graph_section", "small", b"\x01" + graph)
    write("graph_section", "none", b"\x00")
    write("graph_section", "two", b"\x02" + graph + graph.replace(b"main", b"side"))


def programs():
    """Choices for the targets that draw all they do from bytes."""
    draw = random.Random(1)
    for target, size in (("capi", 160), ("kernels", 24), ("preprocess", 32), ("graph", 256), ("detect", 192)):
        for i in range(64):
            write(target, i, draw.randbytes(size))


for seeds in (qbin, safetensors, npy, config, tokenizer, images, lists, coco, graph_section, coded, programs):
    seeds()
