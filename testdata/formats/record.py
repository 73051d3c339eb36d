"""Records what the Python package of llama.cpp makes of blocks of each quantized format: one line for each block.

    python -m venv venv && venv/bin/pip install gguf==0.19.0
    venv/bin/python testdata/formats/record.py

A line of blocks.txt has the format's name, the bytes of the block, and its values as float32, both in hex, as they lie
in memory on a little-endian machine. Codes are random, and scales random of an ordinary size. Behind these come blocks
with what is at the ends of a format's range. crates/kernels/src/dtype.rs reads the file.
"""

import pathlib

import gguf
import numpy

FOLDER = pathlib.Path(__file__).parent
BLOCKS = 2
# Name -> where in a block its f16 numbers are.
FORMATS = {
    "Q8_0": [0], "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0], "MXFP4": [],
}
# All codes of 4 bits, each twice.
CODES = bytes(range(0x00, 0x100, 0x11))
EXTREMES = {
    # The smallest and the largest scale of a group; both signs of d.
    "IQ4_XS": [half + high + low * 4 + CODES * 8
               for half in (b"\x00\x3c", b"\x00\xbc") for high, low in ((b"\0\0", b"\0"), (b"\xff\xff", b"\xff"))],
    # Exponents at the ends of their range, and where scales become normal floats.
    "MXFP4": [bytes([exponent]) + CODES for exponent in (0, 1, 2, 103, 104, 127, 143, 144, 254, 255)],
}


def random_block(random, name, size):
    block = bytearray(random.bytes(size))
    for at in FORMATS[name]:
        block[at:at + 2] = numpy.float16(random.uniform(-0.1, 0.1)).tobytes()
    if name == "MXFP4":
        block[0] = random.integers(118, 126)
    return bytes(block)


def main():
    random = numpy.random.default_rng(1)
    lines = []
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name]
        size = gguf.GGML_QUANT_SIZES[kind][1]
        blocks = [random_block(random, name, size) for _ in range(BLOCKS)] + EXTREMES.get(name, [])
        for block in blocks:
            assert len(block) == size, name
            with numpy.errstate(over="ignore"):
                values = gguf.quants.dequantize(numpy.frombuffer(block, numpy.uint8), kind)
            lines.append(f"{name} {block.hex()} {values.astype('<f4').tobytes().hex()}\n")
    (FOLDER / "blocks.txt").write_text("".join(lines))


main()
