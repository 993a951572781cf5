"""Tables of positions resized by PyTorch's interpolate, as timm, transformers and FlexiViT do it.

    pip install torch numpy
    python3 make_positions.py        # writes positions/ beside this file

Made with PyTorch 2.14, in float64. positions/list.txt has a line 'FILTER FROM_H FROM_W TO_H TO_W' for each file
FILTER_FROM_TO.npy, made of table_FROM.npy: two prefix rows, which stay, then the grid, row by row.
"""
import os

import numpy as np
import torch
import torch.nn.functional as F

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "positions")
PREFIX, COLS = 2, 3
FILTERS = {"antialias": dict(mode="bicubic", antialias=True), "bicubic": dict(mode="bicubic"),
           "bilinear": dict(mode="bilinear")}
GRIDS = {(5, 3): [(5, 4), (8, 8), (2, 3), (1, 1), (3, 7)], (4, 4): [(6, 6), (3, 3), (9, 2)], (1, 2): [(3, 3)],
         (14, 14): [(5, 6), (24, 24)]}


def resized(table, size, to, how):
    grid = table[:, PREFIX:].reshape(1, *size, COLS).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, to, align_corners=False, **how).permute(0, 2, 3, 1)
    return torch.cat([table[:, :PREFIX], grid.reshape(1, -1, COLS)], 1)


def name(size):
    return f"{size[0]}x{size[1]}"


def main():
    os.makedirs(OUT, exist_ok=True)
    torch.manual_seed(22)
    with open(os.path.join(OUT, "list.txt"), "w") as file:
        for size, targets in GRIDS.items():
            table = torch.randn(1, PREFIX + size[0] * size[1], COLS)
            np.save(os.path.join(OUT, f"table_{name(size)}.npy"), table.numpy())
            for key, how in FILTERS.items():
                for to in targets:
                    made = resized(table.double(), size, to, how).float().numpy()
                    np.save(os.path.join(OUT, f"{key}_{name(size)}_{name(to)}.npy"), made)
                    file.write(f"{key} {size[0]} {size[1]} {to[0]} {to[1]}\n")


if __name__ == "__main__":
    main()
