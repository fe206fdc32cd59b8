#!/usr/bin/env python3
"""Writes pictures.txt: what Pillow decodes the published PNG and JPEG suites to, or that they are to be refused.

Run on the folder that holds the unpacked archives (png/, tests/, testimages/), where Pillow is:
python3 tests/parity/pictures.py FOLDER > tests/parity/pictures.txt
"""
import pathlib
import sys
import warnings
import zlib

from PIL import Image, ImageOps, __version__

# Damaged, but Pillow shows what there is of them; here a damaged picture is refused.
DAMAGED = {"png/xcsn0g01.png", "tests/reftest/images/partial_progressive.jpg",
           "tests/crashtest/images/dc-predictor-overflow.jpg", "tests/crashtest/images/subtract-with-overflow.jpg"}
DAMAGED |= {f"tests/crashtest/images/imagetestsuite/{name}.jpg" for name in (
    "1cbb1bb37d62c44f67374cd451643dc4", "5482a54657765056f1a94116a8dbffe7", "7997b6b229f25315d33f5c7085e37500",
    "8e5e74dbf9b68a322fbb9512db837329", "b55977028a3a574336966b6536640fc9", "f6b4389c3cf0f5997b2e5a4b905aea8d")}


def decoded(path):
    picture = Image.open(path)
    picture.load()
    if picture.mode.startswith("I"):  # 16-bit grey: its high bytes, where convert would clip
        return Image.frombytes("L", picture.size, picture.tobytes()[1::2]).convert("RGB")
    return ImageOps.exif_transpose(picture).convert("RGB") if picture.format == "JPEG" else picture.convert("RGB")


folder = pathlib.Path(sys.argv[1])
warnings.simplefilter("ignore")
print(f"# Made by pictures.py with Pillow {__version__}: file, width, height and CRC-32 of its RGB bytes, or `refused`.")
for path in sorted([*folder.glob("png/*.png"), *folder.glob("**/*.jp*g")]):
    name = path.relative_to(folder).as_posix()
    try:
        picture = None if name in DAMAGED else decoded(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        picture = None
    print(name, f"{picture.width} {picture.height} {zlib.crc32(picture.tobytes()):08x}" if picture else "refused")
