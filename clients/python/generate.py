"""Generates the stubs of `interlock.v1` from the protos, beside the committed code of the package.

The build of the package calls it (hatch_build.py), and so does the Makefile, for work in a checkout. The files are
never committed. Nothing is written if all is newer than the protos.
"""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = Path("interlock/v1")


def proto_root() -> Path:
    """Where the protos are: carried along in a source distribution, else in the checkout."""
    for root in (HERE / "proto", HERE.parents[1] / "proto"):
        if (root / PACKAGE).is_dir():
            return root
    raise SystemExit("the protos are missing: build from a checkout or from a source distribution")


def generate(*, force: bool = False) -> list[Path]:
    """Writes the stubs and their types; returns all generated files."""
    root = proto_root()
    protos = sorted((root / PACKAGE).glob("*.proto"))
    out = HERE / PACKAGE
    if not force and _is_fresh(out, protos):
        return _generated(out)

    # Imported here, so that a source distribution can be unpacked and looked at without them.
    from grpc_tools import protoc

    for old in _generated(out):
        old.unlink()
    arguments = ["protoc", f"-I{root}", f"-I{resources.files('grpc_tools') / '_proto'}"]
    arguments += [f"--python_out={HERE}", f"--grpc_python_out={HERE}"]
    # The plugins stand beside the interpreter, which need not be on PATH.
    for plugin, option in (("mypy", "mypy_out"), ("mypy_grpc", "mypy_grpc_out")):
        program = f"protoc-gen-{plugin}"
        path = shutil.which(program, path=str(Path(sys.executable).parent)) or shutil.which(program)
        if path is None:
            raise SystemExit(f"{program} is missing: pip install mypy-protobuf")
        arguments += [f"--plugin={program}={path}", f"--{option}=quiet:{HERE}"]
    arguments += [str(proto.relative_to(root)) for proto in protos]
    if protoc.main(arguments) != 0:
        raise SystemExit("the stubs could not be generated")
    return _generated(out)


def _generated(out: Path) -> list[Path]:
    return sorted([*out.glob("*_pb2*.py"), *out.glob("*_pb2*.pyi")])


def _is_fresh(out: Path, protos: list[Path]) -> bool:
    files = {path.name: path.stat().st_mtime for path in _generated(out)}
    wanted = {f"{proto.stem}_pb2{end}" for proto in protos for end in (".py", ".pyi", "_grpc.py", "_grpc.pyi")}
    newest = max(path.stat().st_mtime for path in [*protos, Path(__file__)])
    return wanted == files.keys() and min(files.values()) > newest


if __name__ == "__main__":
    generate(force="--force" in sys.argv[1:])
