"""Checks an OCI layout of components: layout.py DIRECTORY. Prints the name of each artifact with the digest of its layer.

Against the OCI image specification 1.1 and the CNCF's "Wasm OCI Artifact layout", which wkg, wasmCloud and Spin pull.
"""

import hashlib
import json
import pathlib
import sys

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.wasm.config.v0+json"
LAYER = "application/wasm"
# The exports of a component: the entry point of WASI 0.2 or 0.3.
HANDLERS = ("wasi:http/incoming-handler@0.2.", "wasi:http/handler@0.3.")

layout = pathlib.Path(sys.argv[1])
seen = set()


def check(holds, what):
    if not holds:
        sys.exit(f"oci-check: {what}")


def blob(descriptor, media_type):
    check(descriptor["mediaType"] == media_type, f"the media type {descriptor['mediaType']} is not {media_type}")
    algorithm, digest = descriptor["digest"].split(":")
    seen.add(digest)
    data = (layout / "blobs" / algorithm / digest).read_bytes()
    check(hashlib.sha256(data).hexdigest() == digest, f"{digest} is not the digest of its blob")
    check(len(data) == descriptor["size"], f"{digest} has another size than its descriptor")
    return data


check(json.loads((layout / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}, "oci-layout is another one")
index = json.loads((layout / "index.json").read_text())
check(index["schemaVersion"] == 2 and index["manifests"], "index.json has no manifests")
for descriptor in index["manifests"]:
    name = descriptor["annotations"]["org.opencontainers.image.ref.name"]
    manifest = json.loads(blob(descriptor, MANIFEST))
    check(manifest["schemaVersion"] == 2 and manifest["mediaType"] == MANIFEST, f"{name} has another manifest")
    (layer,) = manifest["layers"]
    wasm = blob(layer, LAYER)
    check(wasm[:8] == b"\0asm\x0d\0\1\0", f"{name} is not a component")
    config = json.loads(blob(manifest["config"], CONFIG))
    check((config["architecture"], config["os"]) == ("wasm", "wasip2"), f"{name} is for another platform")
    check(config["layerDigests"] == [layer["digest"]], f"{name} has other digests of layers")
    imports, exports = config["component"]["imports"], config["component"]["exports"]
    for interface in imports + exports:
        # Each stands in the binary as it is named here.
        check(interface.split("/")[1].split("@")[0].encode() in wasm, f"{name} has no {interface}")
    own = [each for each in imports if each.startswith("alldata:")]
    if name.startswith("peer:"):
        check("alldata:peer/put-sink@" in "".join(exports), f"{name} lacks the interface of sinks")
    else:
        check(any(each.startswith(HANDLERS) for each in exports), f"{name} has no entry point")
        check(bool(own) == name.startswith("peer-component"), f"{name} imports {own}")
    print(name, layer["digest"])
blobs = {path.name for path in (layout / "blobs/sha256").iterdir()}
check(blobs == seen, f"nothing names the blobs {blobs - seen}")
