"""Writes an initramfs: an archive that the kernel unpacks into memory (its documentation, early-userspace/buffer-format),
with a program as /init, files, and modules of the kernel with those that they need, in the order in which they are loaded.

  initramfs.py --out F --init PROGRAM [--file SOURCE:PLACE]... [--modules FOLDER NAME...]

FOLDER is lib/modules/VERSION of a kernel's package. The same input gives the same bytes. Standard library only.
"""

import argparse
import gzip
import lzma
import pathlib
import re


class Archive:
    """The "newc" form of cpio: a header of hexadecimal numbers, the name, the content, each on a boundary of four."""

    def __init__(self):
        self.parts, self.number, self.folders = [], 0, set()

    def entry(self, name, mode, content=b""):
        self.number += 1
        links = 2 if mode & 0o170000 == 0o040000 else 1
        encoded = name.encode() + b"\0"
        fields = [self.number, mode, 0, 0, links, 0, len(content), 0, 0, 0, 0, len(encoded), 0]
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        for part in (head, content):
            self.parts.append(part + bytes(-len(part) % 4))

    def folder(self, name):
        if name in ("", ".") or name in self.folders:
            return
        self.folder(name.rpartition("/")[0])
        self.folders.add(name)
        self.entry(name, 0o040755)

    def file(self, name, content, mode=0o644):
        name = name.lstrip("/")
        self.folder(name.rpartition("/")[0])
        self.entry(name, 0o100000 | mode, content)

    def bytes(self):
        self.number = -1
        self.entry("TRAILER!!!", 0)
        return b"".join(self.parts)


def plain(name):
    """A module's name: the kernel takes - and _ for the same."""
    return name.replace("-", "_")


class Modules:
    def __init__(self, folder):
        self.files = {plain(path.name.split(".ko")[0]): path for path in sorted(folder.rglob("*.ko*"))}
        built_in = folder / "modules.builtin"
        lines = built_in.read_text().split() if built_in.exists() else []
        self.built_in = {plain(pathlib.PurePath(line).name.split(".ko")[0]) for line in lines}

    def content(self, name):
        path = self.files[name]
        content = path.read_bytes()
        return lzma.decompress(content) if path.suffix == ".xz" else content

    def with_needed(self, names):
        """(name, content) of modules that are not in the kernel itself, after those that they need."""
        found = {}

        def add(name, is_wanted):
            if name in found or name in self.built_in:
                return
            if name not in self.files:
                if is_wanted:
                    raise SystemExit(f"initramfs.py: the kernel has no module {name}")
                return
            content = self.content(name)
            for needed in re.findall(rb"\0depends=([^\0]*)\0", content):
                for other in filter(None, needed.decode().split(",")):
                    add(plain(other), True)
            # What it asks for by the name of a service; it may be there under another name, or not at all.
            for softly in re.findall(rb"\0softdep=pre: ([^\0]*)\0", content):
                for other in softly.decode().split():
                    add(plain(other), False)
            found[name] = content

        for name in names:
            add(plain(name), True)
        return found


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--out", required=True, type=pathlib.Path)
    options.add_argument("--init", required=True, type=pathlib.Path)
    options.add_argument("--file", action="append", default=[])
    options.add_argument("--modules", type=pathlib.Path)
    options.add_argument("names", nargs="*")
    options = options.parse_args()

    archive = Archive()
    for folder in ("dev", "proc", "sys", "data", "etc"):
        archive.folder(folder)
    archive.file("init", options.init.read_bytes(), 0o755)
    archive.file("etc/hosts", b"127.0.0.1 localhost\n")
    for pair in options.file:
        source, _, place = pair.rpartition(":")
        archive.file(place, pathlib.Path(source).read_bytes())
    if options.modules:
        modules = Modules(options.modules).with_needed(options.names)
        for name, content in modules.items():
            archive.file(f"lib/modules/{name}.ko", content)
        archive.file("lib/modules/list", "".join(f"{name}.ko\n" for name in modules).encode())
    options.out.write_bytes(gzip.compress(archive.bytes(), 9, mtime=0))


if __name__ == "__main__":
    main()
