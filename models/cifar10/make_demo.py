"""Draws the picture that vitrun carries: a ship at sea. No photograph, so nobody's rights.

    python3 models/cifar10/make_demo.py models/cifar10/demo.jpg     # Pillow, NumPy
"""
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE = 256


def gradient(top, bottom, height):
    t = np.linspace(0, 1, height)[:, None, None]
    rows = np.array(top) * (1 - t) + np.array(bottom) * t
    return np.broadcast_to(rows, (height, SIDE, 3))


def background():
    horizon = 150
    sky = gradient((120, 160, 205), (205, 220, 232), horizon)
    sea = gradient((70, 110, 140), (30, 62, 92), SIDE - horizon)
    pixels = np.concatenate([sky, sea])
    rng = np.random.default_rng(3)
    waves = rng.normal(0, 14, (SIDE - horizon, SIDE // 8)).repeat(8, axis=1)[..., None]
    pixels = pixels.copy()
    pixels[horizon:] += waves
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.5))


def ship(image):
    draw = ImageDraw.Draw(image)
    draw.polygon([(14, 138), (242, 138), (222, 182), (36, 182)], fill=(38, 46, 66))       # hull
    draw.polygon([(26, 168), (230, 168), (222, 182), (36, 182)], fill=(140, 42, 36))      # water line
    draw.rectangle([62, 112, 200, 138], fill=(232, 232, 228))                             # decks
    draw.rectangle([82, 90, 176, 112], fill=(240, 240, 236))
    draw.rectangle([104, 72, 146, 90], fill=(225, 225, 222))
    draw.rectangle([118, 44, 136, 72], fill=(190, 60, 44))                                # funnel
    draw.rectangle([118, 44, 136, 51], fill=(40, 40, 44))
    for x in range(70, 196, 12):
        draw.rectangle([x, 120, x + 5, 127], fill=(70, 90, 110))                          # windows
    for x in range(90, 172, 12):
        draw.rectangle([x, 97, x + 5, 104], fill=(70, 90, 110))
    draw.line([(200, 112), (216, 64)], fill=(90, 90, 96), width=3)                        # mast
    return image.filter(ImageFilter.GaussianBlur(1))


def main():
    ship(background()).save(sys.argv[1], quality=85)


if __name__ == "__main__":
    main()
