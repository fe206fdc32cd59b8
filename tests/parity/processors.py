#!/usr/bin/env python3
"""Writes processors.inc: what published image processors make of pictures of pseudo-random bytes.

The recipes' names are those of tests/test_preprocess.c, which says the same in the language. Run where the libraries
are (pip install transformers Pillow, in a folder of its own):
python3 tests/parity/processors.py > tests/parity/processors.inc
"""
import zlib

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Clip
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil as Llava
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil as Siglip

BILINEAR = 2
PICTURES = [(3, 1, 1), (3, 3, 500), (3, 500, 3), (3, 640, 427), (3, 224, 224), (1, 31, 50), (4, 99, 40), (4, 40, 41)]
MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def square(side):
    return {"height": side, "width": side}


class Plain:
    """nanoVLM's first processor: Resize((224, 224)) of a PIL picture, then ToTensor()."""

    image_mean, image_std = [0, 0, 0], [1, 1, 1]

    def __call__(self, picture, **_):
        resized = picture.resize((224, 224), Image.Resampling.BILINEAR)
        return {"pixel_values": [np.asarray(resized).transpose(2, 0, 1).astype(np.float32) / 255]}


PROCESSORS = {
    "clip": Clip(),
    "siglip": Siglip(),
    "siglip2": Siglip(size=square(256), resample=BILINEAR),  # also minimind-v's second generation
    "llava": Llava(do_pad=True, size={"shortest_edge": 336}, crop_size=square(336)),
    "nanovlm": Plain(),
    "imagenet": Clip(size={"shortest_edge": 256}, crop_size=square(224), resample=BILINEAR),
    "wide": Siglip(size={"height": 96, "width": 161}),
}


def noise(count):
    state, out = 1, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return bytes(out)


print(f"// Made by processors.py with Pillow {PIL.__version__}, transformers {transformers.__version__}:")
print("// recipe, channels, width, height of the picture; the CRC-32 of the bytes that are normalised; of the")
print("// normalised values the first, the middle one and the last.")
for name, processor in PROCESSORS.items():
    for channels, width, height in PICTURES:
        # Transparency is dropped, as LLaVA, minimind-v and nanoVLM load pictures; transformers 5 would lay them on white.
        picture = Image.frombytes(MODES[channels], (width, height), noise(width * height * channels)).convert("RGB")
        values = np.asarray(processor(picture, return_tensors="np")["pixel_values"][0], dtype=np.float64)
        mean, std = (np.reshape(x, (3, 1, 1)) for x in (processor.image_mean, processor.image_std))
        pixels = (values * std + mean) * 255
        assert np.abs(pixels - np.round(pixels)).max() < 1e-3
        crc = zlib.crc32(np.round(pixels).astype(np.uint8).transpose(1, 2, 0).tobytes())
        flat = values.reshape(-1)
        shown = ", ".join(f"{flat[i]:.7g}" for i in (0, flat.size // 2, -1))
        print(f'CASE("{name}", {channels}, {width}, {height}, 0x{crc:08x}, {shown})')
