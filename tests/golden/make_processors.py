"""What transformers' image processors make of images: pixels before rescaling.

    pip install torch torchvision transformers pillow
    python3 make_processors.py        # writes image/processors.txt beside this file

Made with transformers 5.24 and Pillow 13.0, by the processors that work on Pillow. The fast ones
crop alike, and resize with torchvision, which differs by a level in some pixels. A line:
    width height model_width model_height crc32 preprocessor_config.json
The CRC is of the uint8 pixels, [height, width, 3], of pattern(width, height, "noise").
"""
import json
import os
import zlib

import numpy as np

from make_image import pattern
from PIL import Image
from transformers.models.beit.image_processing_pil_beit import BeitImageProcessorPil
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.convnext.image_processing_pil_convnext import ConvNextImageProcessorPil
from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "image", "processors.txt")
SIZES = ((40, 31), (31, 40), (23, 23), (64, 20))


def box(side):
    return {"height": side, "width": side}


def cases():
    """Every parity of the crop's margin, by each way to say a size."""
    for margin in range(5):
        yield DeiTImageProcessorPil, 16, dict(size=box(16 + margin), crop_size=box(16))
        yield CLIPImageProcessorPil, 17, dict(size={"shortest_edge": 17 + margin}, crop_size=box(17))
    yield ViTImageProcessorPil, 16, dict(size=box(16))
    yield ViTImageProcessorPil, 16, dict(size=box(16), resample=3)
    for crop_pct in (0.8, 0.875, 1.0):
        yield ConvNextImageProcessorPil, 16, dict(size={"shortest_edge": 16}, crop_pct=crop_pct)
    yield ConvNextImageProcessorPil, 384, dict(size={"shortest_edge": 384})
    yield SiglipImageProcessorPil, 16, dict(size=box(16))
    yield SiglipImageProcessorPil, 224, {}
    yield BeitImageProcessorPil, 16, dict(size=box(16))
    yield BeitImageProcessorPil, 16, dict(size=box(18), crop_size=box(16), do_center_crop=True)
    yield BeitImageProcessorPil, 224, {}
    yield BitImageProcessorPil, 16, dict(size={"shortest_edge": 18}, crop_size=box(16))  # DINOv2's
    for processor in (BitImageProcessorPil, CLIPImageProcessorPil, DeiTImageProcessorPil, ViTImageProcessorPil):
        yield processor, 224, {}


def main():
    with open(OUT, "w") as file:
        for processor, side, keys in cases():
            for width, height in SIZES:
                made = processor(**keys)
                image = Image.fromarray(pattern(width, height, "noise"))
                pixels = made(image, do_rescale=False, do_normalize=False)["pixel_values"][0]
                pixels = np.asarray(pixels).transpose(1, 2, 0)
                assert pixels.shape == (side, side, 3) and (pixels == np.uint8(pixels)).all()
                said = dict(keys, image_processor_type=processor.__name__[:-3], resample=int(made.resample))
                crc = zlib.crc32(np.uint8(pixels).tobytes())
                file.write(f"{width} {height} {side} {side} {crc:08x} {json.dumps(said, sort_keys=True)}\n")


if __name__ == "__main__":
    main()
