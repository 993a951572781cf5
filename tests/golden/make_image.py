"""Makes tests/golden/image: what Pillow, timm and torchvision make of small images.

Run from anywhere: python3 tests/golden/make_image.py  (Pillow 13, numpy, torch, torchvision, timm)

resize.txt      width height new_width new_height filter pattern crc32 [bytes in hex]
preprocess.txt  width height model_width model_height crop_pct squash filter normalisation crc32
                [floats in hex]; timm's eval transform, float32 little-endian
decode/*        image files; decode.txt: file width height tolerance, and NAME.rgb the pixels of
                Pillow's Image.open(file).convert("RGB")
exif/*          small files whose orientation is stated in some way; exif.txt: file width height
                tolerance, and in hex the pixels of Pillow's ImageOps.exif_transpose(image)
The source pixels of the first two are pattern() below; the tests compute the same ones.
"""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import PIL
from PIL import Image, ImageOps
from timm.data import create_transform

OUT = Path(__file__).parent / "image"
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


def pattern(width, height, kind):
    """[height, width, 3] bytes: 'noise', 'extreme' (0 or 255, which overshoots) or 'smooth'."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    if kind == "smooth":
        return ((x * 5 + y * 3 + c * 40 + x * y // 16) % 256).astype(np.uint8)
    i = ((y * width + x) * 3 + c).astype(np.uint64)
    h = (i * 2654435761 + 12345) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = (h ^ (h >> 13)) >> 24
    return (h if kind == "noise" else (h >> 7) * 255).astype(np.uint8)


def line(fields, data, keep_below):
    text = " ".join(str(f) for f in fields) + f" {zlib.crc32(data):08x}"
    return text + (f" {data.hex()}" if len(data) <= keep_below else "")


def make_resize():
    sizes = [
        (1, 1, 1, 1), (1, 1, 7, 5), (2, 2, 1, 1), (2, 3, 3, 2), (3, 3, 3, 3), (5, 4, 10, 8),
        (10, 8, 5, 4), (13, 17, 7, 9), (7, 9, 13, 17), (1, 40, 8, 8), (40, 1, 8, 8), (1, 50, 1, 3),
        (50, 1, 3, 1), (16, 16, 16, 5), (16, 16, 5, 16), (31, 33, 32, 32), (64, 48, 63, 49),
        (100, 75, 10, 99), (300, 2, 3, 100), (97, 89, 41, 150), (257, 191, 224, 224),
        (500, 400, 320, 256), (400, 500, 256, 320), (640, 427, 371, 248), (1000, 30, 7, 2),
        (32768, 1, 2, 1), (5, 2000, 11, 3),
        # The order of the passes: vertical first where the height loses more than twice what the
        # width does.
        (60, 60, 50, 40), (60, 61, 50, 40), (60, 60, 50, 30), (20, 50, 60, 40), (20, 20, 60, 30),
        (50, 20, 30, 21), (120, 300, 106, 71), (3, 400, 90, 200), (300, 400, 299, 397),
        (300, 400, 299, 398), (1, 2000, 2, 3),
    ]
    lines = []
    for n, (w, h, new_w, new_h) in enumerate(sizes):
        for name, resample in FILTERS.items():
            kind = ("noise", "extreme", "smooth")[n % 3]
            resized = Image.fromarray(pattern(w, h, kind)).resize((new_w, new_h), resample)
            lines.append(line((w, h, new_w, new_h, name, kind), resized.tobytes(), 300))
    (OUT / "resize.txt").write_text("\n".join(lines) + "\n")


def make_preprocess():
    cases = [  # image width, height; model width, height; crop_pct, squash, filter, normalisation
        (500, 400, 224, 224, 0.9, False, "bicubic", "imagenet"),
        (333, 501, 224, 224, 0.875, False, "bicubic", "imagenet"),
        (200, 150, 224, 224, 0.95, False, "bicubic", "half"),
        (256, 256, 256, 256, 1.0, False, "bicubic", "imagenet"),
        (32, 32, 32, 32, 1.0, False, "bilinear", "imagenet"),
        (640, 480, 224, 224, 0.8, False, "bilinear", "half"),  # floor(224 / 0.8f) would be 279
        (301, 299, 224, 224, 1.0, True, "bilinear", "half"),
        (300, 120, 96, 64, 0.9, True, "bicubic", "imagenet"),
        (300, 200, 64, 96, 0.9, False, "bicubic", "imagenet"),  # not square
        (200, 300, 64, 96, 0.875, False, "bilinear", "half"),
        (77, 211, 97, 33, 0.95, False, "bicubic", "half"),
        (90, 70, 96, 96, 1.5, False, "bicubic", "imagenet"),  # smaller than the crop: padded
        (200, 30, 33, 33, 1.4, False, "bicubic", "half"),  # padded on one side only
        (70, 70, 64, 65, 1.3, True, "bilinear", "imagenet"),
        (1, 1, 16, 16, 0.9, False, "bicubic", "imagenet"),
        (1, 300, 16, 16, 0.9, False, "bicubic", "half"),
        (20000, 10, 32, 32, 0.9, False, "bicubic", "half"),
        (5, 3, 4, 4, 1.0, False, "bicubic", "half"),
        (3, 5, 4, 4, 0.9, False, "bicubic", "imagenet"),
        (9, 9, 5, 5, 0.9, False, "bilinear", "half"),
        (280, 700, 224, 224, 0.9, False, "bicubic", "imagenet"),  # from here on vertically first
        (240, 480, 224, 224, 1.0, True, "bicubic", "half"),
        (120, 300, 96, 64, 0.9, True, "bilinear", "imagenet"),
        (30, 110, 24, 40, 0.9, False, "bicubic", "imagenet"),
        (6, 20, 4, 4, 0.9, False, "bicubic", "half"),
        (60, 40, 64, 30, 0.8, True, "bicubic", "imagenet"),
    ]
    # Every parity of the crop's offset: it is rounded half to even.
    cases += [(w, 20, 10, 10, 0.5, False, "bicubic", "half") for w in range(20, 28)]
    lines = []
    for w, h, model_w, model_h, crop, squash, name, normalisation in cases:
        mean, std = NORMALISATIONS[normalisation]
        transform = create_transform((3, model_h, model_w), interpolation=name, mean=mean, std=std,
                                     crop_pct=crop, crop_mode="squash" if squash else "center")
        data = transform(Image.fromarray(pattern(w, h, "noise"))).numpy()
        assert data.shape == (3, model_h, model_w) and data.dtype == np.float32
        fields = (w, h, model_w, model_h, crop, int(squash), name, normalisation)
        lines.append(line(fields, data.astype("<f4").tobytes(), 300))
    (OUT / "preprocess.txt").write_text("\n".join(lines) + "\n")


def png_chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def interlaced_png(pixels):
    """Pillow reads Adam7 but does not write it; filter 0 on every row."""
    height, width, _ = pixels.shape
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
              (0, 1, 1, 2)]  # x, y, step of x, step of y
    raw = b""
    for x, y, step_x, step_y in passes:
        part = pixels[y::step_y, x::step_x]
        raw += b"".join(b"\0" + row.tobytes() for row in part if row.size)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) +
            png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b""))


def rgb16_png(pixels):
    height, width, _ = pixels.shape
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) +
            png_chunk(b"IDAT", zlib.compress(raw)) + png_chunk(b"IEND", b""))


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(width, height):
    """Smooth colours, so that JPEG decoders differ by their rounding only."""
    y, x = np.mgrid[0:height, 0:width]
    r = 128 + 100 * np.sin(x / 9) * np.cos(y / 11)
    g = 255 * x / (width - 1)
    b = 128 + 90 * np.cos((x + y) / 13)
    return Image.fromarray(np.stack([r, g, b], -1).astype(np.uint8))


def partial_gif(image, transparent):
    """A canvas of 30x20 with a frame at (4, 3), a palette of its own and, perhaps, a transparent index."""
    frame = encoded(image, "gif")
    palette = frame[13:13 + (3 << (frame[10] & 7) + 1)]
    place = frame.index(b"\x2c", 13 + len(palette))
    data = frame[place + 10:]
    assert frame[place + 9] == 0, "Pillow writes a global palette"
    control = b"" if transparent is None else b"\x21\xf9\x04\x01\0\0" + bytes([transparent, 0])
    other = bytes(range(12))
    return (b"GIF89a" + struct.pack("<HHBBB", 30, 20, 0x81, 2, 0) + other + control + b"\x2c" +
            struct.pack("<HHHHB", 4, 3, *image.size, 0x80 | frame[10] & 7) + palette + data)


def make_decode():
    noise = Image.fromarray(pattern(19, 13, "noise"))
    alpha = Image.fromarray(pattern(19, 13, "smooth")[:, :, 1])
    palette = noise.quantize(16)
    sixteen = (np.arange(13 * 19 * 3).reshape(13, 19, 3) * 91) % 65536
    smooth = photo(45, 37)
    rgba = noise.copy()
    rgba.putalpha(alpha)
    grey_alpha = noise.convert("L")
    grey_alpha.putalpha(alpha)
    rotated = Image.Exif()
    rotated[0x0112] = 6  # orientation: Pillow, and so timm, ignores it
    animation = [noise, noise.transpose(Image.Transpose.ROTATE_180)]
    files = {  # name: (bytes, tolerance)
        "rgb.png": (encoded(noise, "png"), 0),
        "grey.png": (encoded(noise.convert("L"), "png"), 0),
        "palette.png": (encoded(palette, "png"), 0),
        "palette_alpha.png": (encoded(palette, "png", transparency=bytes(range(0, 256, 16))), 0),
        "rgba.png": (encoded(rgba, "png"), 0),
        "grey_alpha.png": (encoded(grey_alpha, "png"), 0),
        "bit.png": (encoded(noise.convert("1"), "png"), 0),
        "grey16.png": (encoded(Image.fromarray(sixteen[:, :, 0].astype(np.uint16)), "png"), 0),
        "rgb16.png": (rgb16_png(sixteen), 0),
        "interlaced.png": (interlaced_png(pattern(19, 13, "noise")), 0),
        "rgb.bmp": (encoded(noise, "bmp"), 0),
        "palette.bmp": (encoded(palette, "bmp"), 0),
        "palette.gif": (encoded(palette, "gif"), 0),
        "transparent.gif": (encoded(palette, "gif", transparency=5), 0),
        "interlaced.gif": (encoded(palette, "gif", interlace=1), 0),
        "partial.gif": (partial_gif(palette, None), 0),
        "partial_transparent.gif": (partial_gif(palette, 3), 0),
        "grey.gif": (encoded(noise.convert("L"), "gif"), 0),
        "lossy.webp": (encoded(smooth, "webp", quality=80), 0),
        "lossless.webp": (encoded(noise, "webp", lossless=True), 0),
        "alpha.webp": (encoded(rgba, "webp", lossless=True, exact=True), 0),
        "lossy_alpha.webp": (encoded(rgba, "webp", quality=70), 0),
        "animated.webp": (encoded(animation[0], "webp", lossless=True, save_all=True,
                                  append_images=animation[1:]), 0),
        "baseline.jpg": (encoded(smooth, "jpeg", quality=90, subsampling=0), 4),
        "subsampled.jpg": (encoded(smooth, "jpeg", quality=90, subsampling=2), 12),
        "progressive.jpg": (encoded(smooth, "jpeg", quality=90, subsampling=0, progressive=True), 4),
        "grey.jpg": (encoded(smooth.convert("L"), "jpeg", quality=90), 4),
        "cmyk.jpg": (encoded(smooth.convert("CMYK"), "jpeg", quality=90), 4),
        "rotated.jpg": (encoded(smooth, "jpeg", quality=90, subsampling=0, exif=rotated), 4),
    }
    folder = OUT / "decode"
    folder.mkdir(exist_ok=True)
    lines = []
    for name, (data, tolerance) in files.items():
        (folder / name).write_bytes(data)
        image = Image.open(io.BytesIO(data))
        # Pillow clips 16-bit grey to 255; we take the high byte, as it does for 16-bit colour.
        if image.mode == "I;16":
            image = Image.fromarray((np.array(image) >> 8).astype(np.uint8))
        (folder / f"{name}.rgb").write_bytes(image.convert("RGB").tobytes())
        lines.append(f"{name} {image.width} {image.height} {tolerance}")
    (OUT / "decode.txt").write_text("\n".join(lines) + "\n")


def exif_block(orientation, order="<", kind=3, count=1):
    """A TIFF header, and a directory with a width and the orientation."""
    entry = lambda tag, kind, count, value: struct.pack(order + "HHI", tag, kind, count) + value
    word = lambda value: struct.pack(order + "HH", value, 0)
    long = lambda value: struct.pack(order + "I", value)
    value = word(orientation) if kind == 3 else long(orientation)
    head = b"II*\0" if order == "<" else b"MM\0*"
    return (head + long(8) + struct.pack(order + "H", 2) + entry(0x0100, 3, 1, word(9)) +
            entry(0x0112, kind, count, value) + long(0))


def xmp_packet(text):
    return f"<x:xmpmeta xmlns:x='adobe:ns:meta/'>{text}</x:xmpmeta>".encode()


def with_segments(jpeg, *payloads):
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(p) + 2) + p for p in payloads)
    return jpeg[:2] + segments + jpeg[2:]


def with_chunk(png, kind, data, last=False):
    at = len(png) - 12 if last else 33
    return png[:at] + png_chunk(kind, data) + png[at:]


def make_exif():
    small = Image.fromarray(pattern(7, 4, "noise"))
    png, jpeg = encoded(small, "png"), encoded(photo(24, 16), "jpeg", quality=90, subsampling=0)
    webp = lambda **options: encoded(small, "webp", lossless=True, **options)
    exif = lambda block: b"Exif\0\0" + block
    xmp = lambda packet: b"http://ns.adobe.com/xap/1.0/\0" + packet
    attribute, element = (xmp_packet('<r tiff:Orientation="6"/>'),
                          xmp_packet("<tiff:Orientation>8</tiff:Orientation>"))
    text = lambda packet, packed: b"XML:com.adobe.xmp\0" + bytes([packed, 0]) + b"\0\0" + packet
    files = {f"{o}.png": (with_chunk(png, b"eXIf", exif_block(o)), 0) for o in range(10)}
    files |= {
        "big.png": (with_chunk(png, b"eXIf", exif_block(6, ">")), 0),
        "after_pixels.png": (with_chunk(png, b"eXIf", exif_block(5), last=True), 0),
        "named.png": (with_chunk(png, b"eXIf", exif(exif_block(7))), 0),
        "long.png": (with_chunk(png, b"eXIf", exif_block(8, "<", 4)), 0),
        "two_values.png": (with_chunk(png, b"eXIf", exif_block(8, "<", 3, 2)), 0),
        "xmp.png": (with_chunk(png, b"iTXt", text(attribute, 0)), 0),
        "big.jpg": (with_segments(jpeg, exif(exif_block(6, ">"))), 4),
        "second_segment.jpg": (with_segments(jpeg, xmp(element), exif(exif_block(3))), 4),
        "xmp.jpg": (with_segments(jpeg, xmp(element)), 4),
        "both.jpg": (with_segments(jpeg, exif(exif_block(1)), xmp(attribute)), 4),
        "exif.webp": (webp(exif=exif_block(6)), 0),
        "named.webp": (webp(exif=exif(exif_block(8, ">"))), 0),
        "xmp.webp": (webp(xmp=attribute), 0),
    }
    folder = OUT / "exif"
    folder.mkdir(exist_ok=True)
    lines = []
    for name, (data, tolerance) in files.items():
        (folder / name).write_bytes(data)
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        lines.append(f"{name} {image.width} {image.height} {tolerance} {image.tobytes().hex()}")
    (OUT / "exif.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    assert int(PIL.__version__.split(".")[0]) >= 13, "older versions order the passes otherwise"
    OUT.mkdir(exist_ok=True)
    make_resize()
    make_preprocess()
    make_decode()
    make_exif()
