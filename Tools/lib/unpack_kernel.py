"""Takes the kernel itself out of an x86 kernel's file, where it lies packed behind a loader (the kernel's documentation,
x86/boot: payload_offset). The loader unpacks it to a place of its own, which takes more memory than the kernel then has.

  unpack_kernel.py VMLINUZ OUT
"""

import lzma
import pathlib
import struct
import subprocess
import sys
import zlib

SETUP_SECTORS, SIGNATURE, PAYLOAD = 0x1F1, 0x202, 0x248


def unpacked(payload):
    """The payload's last four bytes are its size when it is unpacked."""
    packed, size = payload[:-4], struct.unpack("<I", payload[-4:])[0]
    if packed.startswith(b"\x02\x21\x4c\x18"):
        kernel = subprocess.run(["lz4", "-dc"], input=packed, check=True, capture_output=True).stdout
    elif packed.startswith(b"\x1f\x8b"):
        kernel = zlib.decompress(packed, 31)
    elif packed.startswith(b"\xfd7zXZ"):
        kernel = lzma.decompress(packed)
    else:
        raise SystemExit(f"unpack_kernel.py: the kernel is packed in a way that is not known here: {packed[:4].hex()}")
    if len(kernel) != size or not kernel.startswith(b"\x7fELF"):
        raise SystemExit(f"unpack_kernel.py: {len(kernel)} bytes came out, which are not the kernel of {size}")
    return kernel


def main(source, target):
    image = pathlib.Path(source).read_bytes()
    if image[SIGNATURE:SIGNATURE + 4] != b"HdrS":
        raise SystemExit(f"unpack_kernel.py: {source} is no x86 kernel")
    start = ((image[SETUP_SECTORS] or 4) + 1) * 512
    offset, length = struct.unpack_from("<II", image, PAYLOAD)
    pathlib.Path(target).write_bytes(unpacked(image[start + offset:start + offset + length]))


main(*sys.argv[1:])
