"""Writes the SPDX 2.3 document (JSON) of one shipped binary: what is statically linked, in which version, from where.

Run by Tools/package. The versions are those that the build used: Debian's source packages in .build/sources, and musl in
the sysroot. The same build gives the same bytes. Standard library only.
"""

import argparse
import datetime
import glob
import hashlib
import json
import os
import re
import uuid

# Their licences, as the sources say; and what is there beyond Debian's version.
FOREIGN = {
    "lmdb": ("OLDAP-2.8", "Of the pages of a transaction at most 256 stay allocated; compiled with MDB_USE_ROBUST=1."),
    "mbedtls": ("Apache-2.0", "Configured by Tools/lib/mbedtls-config.h: TLS 1.2 with ephemeral ECDH."),
    "libyaml": ("MIT", ""),
    "zlib": ("Zlib", ""),
}


def fields(path):
    """The first value of each field of a Debian control file, and the SHA-256 of each file that a .dsc lists."""
    found, hashes, section = {}, {}, ""
    with open(path) as file:
        for line in file:
            if match := re.match(r"([A-Za-z0-9-]+):\s*(.*)", line):
                section = match[1]
                found.setdefault(section, match[2].strip())
            elif section == "Checksums-Sha256" and (match := re.match(r" ([0-9a-f]{64}) \d+ (\S+)", line)):
                hashes[match[2]] = match[1]
    return found, hashes


def foreign(name, sources):
    """The package of a library that was compiled from Debian's source package."""
    (path,) = glob.glob(os.path.join(sources, f"{name}_*.dsc"))
    dsc, hashes = fields(path)
    licence, note = FOREIGN[name]
    original = min((file for file in hashes if ".orig.tar" in file and not file.endswith(".asc")), key=len)
    return {
        "name": name, "SPDXID": f"SPDXRef-{name}", "versionInfo": dsc["Version"], "supplier": "Organization: Debian",
        "downloadLocation": "NOASSERTION", "homepage": dsc.get("Homepage", "NOASSERTION"), "filesAnalyzed": False,
        "packageFileName": original, "checksums": [{"algorithm": "SHA256", "checksumValue": hashes[original]}],
        "sourceInfo": "Debian's source package with Debian's patches, compiled by Tools/lib/foreign.sh",
        "licenseConcluded": licence, "licenseDeclared": licence, "copyrightText": "NOASSERTION",
        **({"comment": note} if note else {}),
        "externalRefs": [purl(f"pkg:deb/debian/{name}@{escape(dsc['Version'])}?arch=source")],
    }


def purl(locator):
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}


def escape(version):
    return version.replace(":", "%3A").replace("+", "%2B")


def plain(name, version, licence, note):
    return {
        "name": name, "SPDXID": f"SPDXRef-{name}", "versionInfo": version, "supplier": "NOASSERTION",
        "downloadLocation": "NOASSERTION", "filesAnalyzed": False, "licenseConcluded": licence, "licenseDeclared": licence,
        "copyrightText": "NOASSERTION", "sourceInfo": note,
    }


def document(arguments):
    with open(arguments.binary, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    file_name = os.path.basename(arguments.binary)
    with open(os.path.join(arguments.sysroot, "musl-version")) as file:
        musl = file.read().strip()
    linked = [foreign(name, arguments.sources) for name in FOREIGN]
    linked.append({
        **plain("musl", musl, "MIT", "the static library of Debian's musl-dev"), "supplier": "Organization: Debian",
        "externalRefs": [purl(f"pkg:deb/debian/musl@{escape(musl)}?arch=source")],
    })
    swift = re.search(r"Swift version (\S+)", arguments.swift)
    linked.append(plain(
        "swift", swift[1] if swift else "NOASSERTION", "Apache-2.0 WITH Swift-exception",
        "the compiler's Embedded standard library: what the program uses of it"))
    linked.append(plain(
        "libgcc", "NOASSERTION", "GPL-3.0-or-later WITH GCC-exception-3.1", "arithmetic that the processor lacks; by gcc"))
    itself = {
        **plain("gatehouse", arguments.version, "Apache-2.0", "this repository"),
        "SPDXID": "SPDXRef-gatehouse", "packageFileName": file_name, "primaryPackagePurpose": "APPLICATION",
        "checksums": [{"algorithm": "SHA256", "checksumValue": digest}],
    }
    relations = [("SPDXRef-DOCUMENT", "DESCRIBES", "SPDXRef-gatehouse")]
    relations += [("SPDXRef-gatehouse", "STATIC_LINK", package["SPDXID"]) for package in linked]
    created = datetime.datetime.fromtimestamp(arguments.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "spdxVersion": "SPDX-2.3", "dataLicense": "CC0-1.0", "SPDXID": "SPDXRef-DOCUMENT", "name": file_name,
        "documentNamespace": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, digest + arguments.version)}",
        "creationInfo": {"created": created, "creators": ["Tool: gatehouse-package"]},
        "packages": [itself, *linked],
        "relationships": [
            {"spdxElementId": of, "relationshipType": kind, "relatedSpdxElement": to} for of, kind, to in relations],
    }


def main():
    parser = argparse.ArgumentParser()
    for name in ("binary", "version", "sources", "sysroot", "swift"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--epoch", type=int, required=True)
    print(json.dumps(document(parser.parse_args()), indent=1))


main()
