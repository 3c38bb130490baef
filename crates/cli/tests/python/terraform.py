"""Reads a folder's Terraform files and prints, as JSON, what they say.

`blocks` has all of it, by kind; `containers` the environment of the service and of each job: its arguments, its settings (what is
only known when it is applied begins with `known-later`), and the secret that each of its other variables is.

usage: terraform.py FOLDER
"""

import json
import pathlib
import re
import sys

import hcl2

PAIR = re.compile(r'([A-Z][A-Z0-9_]+) = (?:tostring\()?("(?:[^"\\]|\\.)*"|[^,}\n)]+)')


def plain(value):
    """A value as it is said: without quotes, and without what nobody knows yet."""
    value = str(value).strip().removeprefix('"').removesuffix('"')
    named = lambda found: "known-later" + re.sub(r"[^a-z0-9]+", "-", found[0].lower()).rstrip("-")
    return re.sub(r"\$\{[^}]*\}|^(var|local)\..*", named, value)


def settings(said, shared):
    """A map of settings: written out, one of the shared ones, or several merged."""
    if isinstance(said, dict):
        return {name: plain(value) for name, value in said.items() if name.isupper() or "__" in name}
    found = {}
    for name in re.findall(r"local\.([a-z]+)", said):
        found |= settings(shared.get(name, ""), shared) if name in shared else {}
    return found | {name: plain(value) for name, value in PAIR.findall(said)}


def unquoted(value):
    if isinstance(value, dict):
        return {unquoted(key): unquoted(one) for key, one in value.items() if key != "__is_block__"}
    if isinstance(value, list):
        return [unquoted(one) for one in value]
    return value.removeprefix('"').removesuffix('"') if isinstance(value, str) and not value.startswith("${") else value


blocks = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.tf")):
    with path.open() as file:
        for kind, found in hcl2.load(file).items():
            if kind != "__comments__":
                blocks.setdefault(kind, []).extend(unquoted(found))

said = {}
for one in blocks["locals"]:
    said |= one
containers = {"service": said["service"] | {"args": ["serve"], "identity": "service"}} | said["jobs"]
for container in containers.values():
    container["settings"] = settings(container["settings"], said)
    container["secrets"] = {name: plain(value) for name, value in container["secrets"].items()}
print(json.dumps({"blocks": blocks, "containers": containers, "readers": said["readers"]}))
