"""Writes the reference pages of the protos: a page for each service, one for what all share, and an index.

Usage: reference.py FOLDER < DESCRIPTORS, where DESCRIPTORS is the JSON of
`buf build --as-file-descriptor-set -o -#format=json`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PACKAGE = "interlock.v1"
_COMMON = "common"
_NOTE = "<!-- Generated from the protos by `make reference`. Do not edit. -->\n"
# Field numbers of descriptors, by which comments are found.
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE = 4, 5, 6
_MESSAGE_FIELD, _MESSAGE_NESTED, _MESSAGE_ENUM = 2, 3, 4
_MESSAGE_ONEOF = 8
_ENUM_VALUE = 2
_SERVICE_METHOD = 2
_SYNTAX, _PACKAGE_NAME = 12, 2

_BEHAVIORS = {
    "REQUIRED": "required",
    "OPTIONAL": "optional",
    "OUTPUT_ONLY": "output only",
    "IMMUTABLE": "immutable",
}

Descriptor = dict[str, Any]
Path_ = tuple[int, ...]


@dataclass
class Type:
    """A message or an enum."""

    name: str
    """Name within the package, such as `Job` or `Outer.Inner`."""
    page: str
    comment: str
    lines: list[str] = field(default_factory=list)
    """The table of its fields or values; types of fields are `{{.interlock.v1.Job}}`."""

    @property
    def anchor(self) -> str:
        """Link of its heading."""
        return self.name.lower().replace(".", "")


class File:
    """A file of the package with its comments."""

    def __init__(self, descriptor: Descriptor) -> None:
        self.descriptor = descriptor
        self.stem = Path(descriptor["name"]).stem
        """Name without folder and ending."""
        self._comments = {
            tuple(location.get("path", ())): location
            for location in descriptor["sourceCodeInfo"]["location"]
            if "leadingComments" in location or "trailingComments" in location
        }

    def comment(self, path: Path_) -> str:
        """Comment of an element, without the space before each line."""
        location = self._comments.get(path, {})
        text = location.get("leadingComments") or location.get("trailingComments") or ""
        return "\n".join(line.removeprefix(" ").rstrip() for line in text.splitlines()).strip()

    @property
    def page(self) -> str:
        """Name of the page that has the types of this file."""
        if self.descriptor.get("service"):
            return self.stem
        return f"{self.stem}_service"


def main() -> None:
    """Writes all pages into the folder of the first argument, and removes others."""
    folder = Path(sys.argv[1])
    files = [File(f) for f in json.load(sys.stdin)["file"] if f.get("package") == _PACKAGE]
    services = {file.stem: file for file in files if file.descriptor.get("service")}
    pages: dict[str, list[Type]] = {stem: [] for stem in (*services, _COMMON)}
    types: dict[str, Type] = {}
    for file in sorted(files, key=lambda file: file.stem):
        page = file.page if file.page in services else _COMMON
        for found in _types(file, page):
            pages[page].append(found)
            types[f".{_PACKAGE}.{found.name}"] = found
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.md"):
        old.unlink()
    for page, own in pages.items():
        head = _service(services[page], types, page) if page in services else _shared(files)
        text = head + "".join(_type(each, types) for each in own)
        _check_anchors(page, text)
        (folder / f"{page}.md").write_text(_NOTE + text.rstrip() + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_NOTE + _index(services), encoding="utf-8")


def _types(file: File, page: str) -> Iterator[Type]:
    for i, message in enumerate(file.descriptor.get("messageType", ())):
        yield from _messages(file, page, message, (_FILE_MESSAGE, i), "")
    for i, enum in enumerate(file.descriptor.get("enumType", ())):
        yield _enum(file, page, enum, (_FILE_ENUM, i), "")


def _messages(file: File, page: str, message: Descriptor, path: Path_, prefix: str) -> Iterator[Type]:
    """A message and what is nested in it, except for entries of maps."""
    name = prefix + message["name"]
    nested = {f".{_PACKAGE}.{name}.{each['name']}": each for each in message.get("nestedType", ())}
    maps = {key: each for key, each in nested.items() if each.get("options", {}).get("mapEntry")}
    found = Type(name, page, file.comment(path))
    if message.get("field"):
        found.lines = ["| field | type | |", "| --- | --- | --- |"]
    for i, each in enumerate(message.get("field", ())):
        text = file.comment((*path, _MESSAGE_FIELD, i))
        behaviors = each.get("options", {}).get("[google.api.field_behavior]", ())
        marks = [_BEHAVIORS.get(mark, mark.lower()) for mark in behaviors]
        if "oneofIndex" in each and not each.get("proto3Optional"):
            marks.append(f"one of `{message['oneofDecl'][each['oneofIndex']]['name']}`")
        mark = f"*{', '.join(marks)}.* " if marks else ""
        # What the mark says already.
        text = re.sub(r"\s*Required\.$", "", text) if "required" in marks else text
        text = text.removeprefix("Output only, ignored in requests: ") if "output only" in marks else text
        found.lines.append(f"| `{each['name']}` = {each['number']} | {_type_name(each, maps)} | {mark}{_cell(text)} |")
    groups = [
        f"- One of `{each['name']}`: {_cell(file.comment((*path, _MESSAGE_ONEOF, i)))}"
        for i, each in enumerate(message.get("oneofDecl", ()))
        if file.comment((*path, _MESSAGE_ONEOF, i))
    ]
    if groups:
        found.lines += ["", *groups]
    yield found
    for i, each in enumerate(message.get("nestedType", ())):
        if f".{_PACKAGE}.{name}.{each['name']}" not in maps:
            yield from _messages(file, page, each, (*path, _MESSAGE_NESTED, i), f"{name}.")
    for i, each in enumerate(message.get("enumType", ())):
        yield _enum(file, page, each, (*path, _MESSAGE_ENUM, i), f"{name}.")


def _enum(file: File, page: str, enum: Descriptor, path: Path_, prefix: str) -> Type:
    found = Type(prefix + enum["name"], page, file.comment(path), ["| value | |", "| --- | --- |"])
    for i, each in enumerate(enum["value"]):
        text = file.comment((*path, _ENUM_VALUE, i))
        found.lines.append(f"| `{each['name']}` = {each.get('number', 0)} | {_cell(text)} |")
    return found


def _type_name(of: Descriptor, maps: dict[str, Descriptor]) -> str:
    """Type of a field, with references of messages and enums in double braces."""
    if of.get("typeName") in maps:
        key, value = maps[of["typeName"]]["field"]
        return f"map of {_type_name(key, {})} to {_type_name(value, {})}"
    name = f"{{{{{of['typeName']}}}}}" if "typeName" in of else of["type"].removeprefix("TYPE_").lower()
    return f"repeated {name}" if of["label"] == "LABEL_REPEATED" else name


def _linked(text: str, types: dict[str, Type], page: str) -> str:
    """`text` with its references as links."""

    def link(match: re.Match[str]) -> str:
        found = types.get(match[1])
        if found is None:
            return f"`{match[1].removeprefix('.')}`"
        where = "" if found.page == page else f"{found.page}.md"
        return f"[{found.name}]({where}#{found.anchor})"

    return re.sub(r"\{\{(\S+?)\}\}", link, text)


def _cell(text: str) -> str:
    """A comment in a cell of a table."""
    paragraphs = re.split(r"\n\n+", text)
    return "<br>".join(" ".join(each.splitlines()) for each in paragraphs).replace("|", "\\|").replace("<id>", "`<id>`")


def _prose(text: str) -> str:
    """A comment as Markdown: errors and the safety of repeats are paragraphs of their own."""
    return re.sub(r"\n?^(Errors|Repeating): ", r"\n\n**\1:** ", text, flags=re.MULTILINE).strip()


def _type(of: Type, types: dict[str, Type]) -> str:
    table = _linked("\n".join(of.lines), types, of.page)
    return f"### {of.name}\n{_prose(of.comment)}\n\n" + (f"{table}\n\n" if table else "")


def _service(file: File, types: dict[str, Type], page: str) -> str:
    """The head of a page: the service and its rpcs."""
    text = ""
    for i, service in enumerate(file.descriptor["service"]):
        methods = service["method"]
        text += f"# {service['name']}\n{_prose(file.comment((_FILE_SERVICE, i)))}\n\n"
        text += f"Full name: `{_PACKAGE}.{service['name']}`. [All services](README.md).\n\n## Rpcs\n"
        text += "".join(f"- [{each['name']}](#{each['name'].lower()})\n" for each in methods) + "\n"
        for j, each in enumerate(methods):
            request = ("stream " if each.get("clientStreaming") else "") + f"{{{{{each['inputType']}}}}}"
            response = ("stream " if each.get("serverStreaming") else "") + f"{{{{{each['outputType']}}}}}"
            is_read = each.get("options", {}).get("idempotencyLevel") == "NO_SIDE_EFFECTS"
            signature = f"{request} → {response}" + (" (a read; also by HTTP GET)" if is_read else "")
            comment = _prose(file.comment((_FILE_SERVICE, i, _SERVICE_METHOD, j)))
            text += f"### {each['name']}\n{_linked(signature, types, page)}\n\n{comment}\n\n"
    return text + "## Messages and enums\n"


def _shared(files: list[File]) -> str:
    """The head of the page of types that no service has for itself."""
    text = "# Common types\n"
    for file in files:
        if file.page.removesuffix("_service") in ("common", "error"):
            found = file.comment((_PACKAGE_NAME,)) or file.comment((_SYNTAX,))
            text += f"{_prose(found)}\n\n"
    return text + "[All services](README.md).\n\n"


def _index(services: dict[str, File]) -> str:
    text = "# Reference\nThe services of package `interlock.v1`, whose protos are in [proto](../../proto).\n\n"
    for stem, file in sorted(services.items()):
        for i, service in enumerate(file.descriptor["service"]):
            first = " ".join(file.comment((_FILE_SERVICE, i)).split("\n")).split(". ")[0].rstrip(".")
            count = len(service["method"])
            text += f"- [{service['name']}]({stem}.md), {count} rpc{'s' * (count > 1)}: {first}.\n"
    return (
        text + f"- [Common types]({_COMMON}.md): what several services use, and the errors that any rpc can return.\n"
    )


def _check_anchors(page: str, text: str) -> None:
    """Links go to headings, so no two may be equal."""
    names = [line[4:].lower().replace(".", "") for line in text.splitlines() if line.startswith("### ")]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SystemExit(f"{page}: two headings have the same link: {sorted(twice)}")


if __name__ == "__main__":
    main()
