#!/usr/bin/env python3
"""Writes pillow_resize.inc: what Pillow's Image.resize gives for pictures of pseudo-random bytes, as hashes.

Run once, where Pillow is installed: python3 tests/parity/pillow_resize.py > tests/parity/pillow_resize.inc
"""
from PIL import Image, __version__

SIZES = [(28, 28, 64, 64), (37, 23, 16, 16), (100, 75, 33, 50), (5, 7, 224, 224), (640, 480, 298, 224),
         (1, 1, 9, 3), (3, 200, 3, 10), (64, 64, 64, 32), (500, 3, 7, 3), (1000, 1, 1, 1), (17, 19, 18, 20),
         (3, 500, 224, 224), (100, 100, 71, 41), (100, 100, 71, 42), (20, 25, 19, 12), (19, 161, 14, 139)]


def noise(count):
    state, out = 1, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        out.append(state >> 24)
    return bytes(out)


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def luma():
    picture = Image.frombytes("RGB", (16, 16), noise(16 * 16 * 3)).convert("L")
    return fnv(picture.tobytes())


print(f"// Made by pillow_resize.py with Pillow {__version__}:")
print("// channels, width, height, new width, new height, resample, hash of the resized bytes.")
for channels, mode in ((1, "L"), (3, "RGB")):
    for width, height, new_width, new_height in SIZES:
        picture = Image.frombytes(mode, (width, height), noise(width * height * channels))
        for name in ("BILINEAR", "BICUBIC"):
            resized = picture.resize((new_width, new_height), getattr(Image.Resampling, name))
            print(f"CASE({channels}, {width}, {height}, {new_width}, {new_height}, RESAMPLE_{name}, "
                  f"0x{fnv(resized.tobytes()):016x})")
print(f"LUMA(0x{luma():016x})")
