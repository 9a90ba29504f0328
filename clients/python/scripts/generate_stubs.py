"""Writes `annals/_proto/v1` from the project's proto files; with `--check`, fails if it would change anything.

protoc writes the messages and their types, grpc_python the service stubs, mypy_grpc the types of those. The modules
that protoc names after the proto package (`annals.v1`) are moved into the client's own (`annals._proto.v1`).
`google.rpc` is not generated: it comes from googleapis-common-protos.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

CLIENT = Path(__file__).resolve().parent.parent
PROTO = CLIENT.parent.parent / "proto"
TARGET = CLIENT / "annals" / "_proto" / "v1"
GENERATORS = ("grpcio-tools", "mypy-protobuf")


def main() -> int:
    """Generate the stubs, or compare them with the committed ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the stubs are out of date")
    check: bool = parser.parse_args().check

    require_pinned_generators()
    wanted = generate()
    present = {path.name: path.read_text("utf-8") for path in sorted(TARGET.glob("*")) if path.is_file()}
    changed = sorted(name for name in wanted.keys() | present.keys() if wanted.get(name) != present.get(name))

    if check:
        for name in changed:
            print(f"out of date: {(TARGET / name).relative_to(CLIENT)}", file=sys.stderr)
        if changed:
            print("run `python scripts/generate_stubs.py` and commit what it writes", file=sys.stderr)
        return 1 if changed else 0

    TARGET.mkdir(parents=True, exist_ok=True)
    for name in changed:
        path = TARGET / name
        if name in wanted:
            path.write_text(wanted[name], "utf-8")
        else:
            path.unlink()
        print(path.relative_to(CLIENT))
    return 0


def require_pinned_generators() -> None:
    """Refuse generators other than those pinned in pyproject.toml: their output differs."""
    pyproject = (CLIENT / "pyproject.toml").read_text("utf-8")
    for name in GENERATORS:
        pin = re.search(rf'"{name}==([^"]+)"', pyproject)
        if pin is None:
            sys.exit(f"pyproject.toml does not pin {name}")
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            sys.exit(f"{name} is missing: install the client with its `dev` extra")
        if found != pin[1]:
            sys.exit(f"{name} {pin[1]} is needed, found {found}: install the client with its `dev` extra")


def generate() -> dict[str, str]:
    """Run protoc in a temporary folder and return the text of each file."""
    protos = sorted(str(path.relative_to(PROTO)) for path in (PROTO / "annals" / "v1").glob("*.proto"))
    if not protos:
        sys.exit(f"no proto files in {PROTO}")
    plugin = Path(sysconfig.get_path("scripts")) / "protoc-gen-mypy_grpc"
    with tempfile.TemporaryDirectory() as temporary:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "grpc_tools.protoc",
                f"--proto_path={PROTO}",
                f"--plugin=protoc-gen-mypy_grpc={plugin}",
                f"--python_out={temporary}",
                f"--pyi_out={temporary}",
                f"--grpc_python_out={temporary}",
                f"--mypy_grpc_out=quiet:{temporary}",
                *protos,
            ],
            check=True,
        )
        files = {"__init__.py": ""}
        for path in sorted((Path(temporary) / "annals" / "v1").iterdir()):
            text = path.read_text("utf-8")
            # A proto file without services has service stubs without a service.
            service = path.name.partition("_pb2_grpc.")[0]
            if "_pb2_grpc." in path.name and f"annals/v1/{service}.proto" not in with_services(protos):
                continue
            files[path.name] = move(text)
    return files


def with_services(protos: list[str]) -> list[str]:
    """Those of the proto files that define a service."""
    return [name for name in protos if re.search(r"^service ", (PROTO / name).read_text("utf-8"), re.MULTILINE)]


def move(text: str) -> str:
    """Rename the modules `annals.v1.*_pb2`; names of messages and services on the wire stay as they are."""
    text = re.sub(r"^from annals\.v1 import", "from annals._proto.v1 import", text, flags=re.MULTILINE)
    return re.sub(r"'annals\.v1\.(\w+_pb2)'", r"'annals._proto.v1.\1'", text)


if __name__ == "__main__":
    sys.exit(main())
