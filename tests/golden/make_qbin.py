#!/usr/bin/env python3
"""Writes tests/golden/qbin/v2_0.qbin from the specifications in runtime/files/qbin.h and kernels/pack.h.

Independent of the C++ code: struct and zlib only. The file is what a version 2.0 writer makes, and
must load for ever. The v1_0.qbin beside it is what this script made of format version 1, which held
no graph and is refused.
"""

import pathlib
import struct
import zlib

ALIGN = 64
COLUMNS, DEPTHS = 17, 35  # of the packed tensors: two panels of two blocks


def name(text):
    data = text.encode()
    return struct.pack("<H", len(data)) + data


def string(text):
    data = text.encode()
    return struct.pack("<I", len(data)) + data


METADATA = {  # in the order of their bytes, as the writer sorts them
    "f64": (2, struct.pack("<d", -0.1)),
    "f64s": (5, struct.pack("<I3d", 3, 1.5, float("inf"), 5e-324)),
    "i64": (1, struct.pack("<q", -(2**63))),
    "i64s": (4, struct.pack("<I3q", 3, 1, -1, 2**63 - 1)),
    "none": (6, struct.pack("<I", 0)),
    "string": (3, string("Füße\n")),
    "strings": (6, struct.pack("<I", 2) + string("") + string("猫 𝄞")),
}


# A node is its kind, role, block, name, flags, the names that these spell out, inputs, attributes.
NODES = [
    (0, 0, -1, "image", 0, [], [], {0: 3, 1: 4, 2: 5, 3: 1}),
    (2, 0, -1, "patches", 0, [], [0], {4: 2, 5: 2, 6: 1, 8: 1}),
    (4, 1, 0, "blocks.0.fc", 1 | 4 | 16, [], [1], {}),  # its unit, weight and bias go by its name
    (5, 3, 70000, "Füße", 3 | 12 | 48, ["猫", "w", "b"], [2], {12: 1e-6}),  # all have other names
    (8, 11, -(2**31), "n" * 256, 16, [], [3, 2], {14: float("inf"), 15: -5e-324}),
]
GRAPHS = {"decoder": ([], []), "main": (NODES, [("logits", 4), ("features", 3), ("猫", 3)])}


def node(kind, role, block, text, flags, names, inputs, attributes):
    out = struct.pack("<2Bi", kind, role, block) + name(text) + bytes([flags])
    out += b"".join(map(name, names)) + struct.pack(f"<B{len(inputs)}I", len(inputs), *inputs)
    return out + bytes([len(attributes)]) + b"".join(struct.pack("<Bd", *a) for a in attributes.items())


def graph(text, nodes, outputs):
    out = name(text) + struct.pack("<I", len(nodes)) + b"".join(node(*n) for n in nodes)
    return out + struct.pack("<H", len(outputs)) + b"".join(
        name(output) + struct.pack("<I", at) for output, at in outputs)


def code(column, depth, bits):
    """The code the tensor holds there; the signed zero in the padding."""
    if column >= COLUMNS or depth >= DEPTHS:
        return 1 << (bits - 1)
    return (37 * column + 11 * depth + column * depth) % (1 << bits)


def block(column, depth, bits):
    """One block of kernels/pack.h, 16 columns x 32 deep."""
    rows = [[code(column + c, depth + 4 * r + i, bits) for c in range(16) for i in range(4)]
            for r in range(8)]
    if bits == 8:
        return bytes((u - 128) & 255 for row in rows for u in row)
    planes = {3: [2, 1], 4: [4], 5: [4, 1], 6: [4, 2], 7: [4, 2, 1]}[bits]
    out, taken = bytearray(), 0
    for width in planes:
        fields = [[u >> taken & (1 << width) - 1 for u in row] for row in rows]
        taken += width
        for x in range(64) if width == 1 else ():
            out.append(sum(fields[r][x] << r for r in range(8)))
        for line in range(2 if width == 2 else 0):
            for x in range(64):
                out.append(sum(fields[4 * line + t][x] << 2 * t for t in range(4)))
        for line in range(4 if width == 4 else 0):
            out.extend(fields[2 * line][x] | fields[2 * line + 1][x] << 4 for x in range(64))
    return bytes(out)


def packed(bits):
    return b"".join(block(column, depth, bits)
                    for column in range(0, COLUMNS, 16) for depth in range(0, DEPTHS, 32))


TENSORS = [  # name, dtype, bits, dims, bytes
    ("f32", 1, 0, [2, 3], struct.pack("<6f", 0, 1, -2, 0.5, 1e-40, 3e38)),
    ("f16", 2, 0, [1, 2, 1, 1], struct.pack("<2e", 1, -0.25)),
    ("i8", 3, 0, [5], struct.pack("<5b", -128, -1, 0, 1, 127)),
    ("u8", 4, 0, [3, 1], bytes([0, 128, 255])),
    ("i16", 5, 0, [2, 1, 1], struct.pack("<2h", -32768, 32767)),
    ("i32", 6, 0, [], struct.pack("<i", -(2**31))),
] + [(f"blocks.0.packed{b}", 7, b, [COLUMNS, DEPTHS], packed(b)) for b in range(3, 9)]


def pad(data):
    return data + bytes(-len(data) % ALIGN)


def table(start):
    out, end = b"", start
    for text, dtype, bits, dims, data in TENSORS:
        offset = -(-end // ALIGN) * ALIGN
        out += name(text) + struct.pack("<4BIQQ", dtype, bits, len(dims), 0, zlib.crc32(data),
                                        offset, len(data))
        out += struct.pack(f"<{len(dims)}Q", *dims)
        end = offset + len(data)
    return out, end


def make():
    metadata = b"".join(name(key) + bytes([kind]) + value
                        for key, (kind, value) in METADATA.items())
    graphs = b"".join(graph(text, *content) for text, content in GRAPHS.items())
    graph_offset = 64 + len(metadata)
    table_offset = graph_offset + len(graphs)
    head_size = len(pad(bytes(table_offset) + table(0)[0]))
    entries, file_size = table(head_size)
    header = struct.pack("<8s2HI3Q2IQI4x", b"\x89QBN\r\n\x1a\n", 2, 0, 0, file_size, head_size,
                         table_offset, len(METADATA), len(TENSORS), graph_offset, len(GRAPHS))
    head = pad(header + metadata + graphs + entries)
    head = head[:12] + struct.pack("<I", zlib.crc32(head)) + head[16:]
    data = b""
    for _, _, _, _, blob in TENSORS:
        data = pad(data) + blob
    return head + data


if __name__ == "__main__":
    path = pathlib.Path(__file__).parent / "qbin" / "v2_0.qbin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(make())
