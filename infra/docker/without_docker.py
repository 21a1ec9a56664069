"""Build the image without a container engine: run the instructions of the Dockerfile in a folder, as root.

    debootstrap --variant=minbase --include=ca-certificates bookworm /tmp/base     and Python in /tmp/base/usr/local
    python infra/docker/without_docker.py /tmp/base /tmp/image
    python infra/docker/without_docker.py /tmp/base /tmp/image --run "aai demo"    in the image, as its user, offline

It proves the Dockerfile where no engine may run. The base stands for each `FROM`; programs see the folder as their
root, have processes and mounts of their own, and get the variables of the Dockerfile only, those named by `--pass`
besides. It needs util-linux (`unshare`) and git, and knows the instructions that this Dockerfile has.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = Path(__file__).parents[2]
DOCKERFILE = SOURCE / "infra" / "docker" / "Dockerfile"

KNOWN = ("FROM", "ARG", "RUN", "ENV", "COPY", "WORKDIR", "SHELL", "USER", "VOLUME", "CMD")
"""Instructions that are carried out; VOLUME and CMD need nothing."""

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENTER = """
set -eu
mount --rbind /dev "$0/dev"
mount -t proc proc "$0/proc"
exec chroot --userspec="$1:$1" "$0" "${@:2}"
"""


@dataclass
class Stage:
    """A stage of the build: its root folder, and what its instructions have set."""

    root: Path
    values: dict[str, str] = field(default_factory=lambda: {"PATH": _PATH})
    arguments: dict[str, str] = field(default_factory=dict)
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])
    user: str = "0"
    folder: str = "/"

    def run(self, command: str, *unshare: str) -> None:
        """Run a command in the root; ends the build if it fails."""
        values = self.arguments | self.values
        program = ["env", "-i", "-C", self.folder, *(f"{name}={value}" for name, value in values.items())]
        enter = ["bash", "-c", _ENTER, str(self.root), self.user]
        inside = [*enter, *program, *self.shell, command]
        subprocess.run(["unshare", "--mount", "--pid", "--kill-child", *unshare, *inside], check=True)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions of a Dockerfile with their arguments, in one line each."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            yield name, rest.strip()


def build(base: Path, image: Path, given: dict[str, str], passed: dict[str, str]) -> Stage:
    """Carry out the Dockerfile; the last stage's root is `image`, the others lie beside it."""
    stages, stage = dict[str, Stage](), Stage(image)
    wanted = list(instructions(DOCKERFILE.read_text()))
    if unknown := {name for name, _ in wanted} - set(KNOWN):
        sys.exit(f"{DOCKERFILE}: {', '.join(unknown)} is not known here: add it to {__file__}")
    for name, rest in wanted:
        print(f"{name} {rest}", flush=True)
        if name == "FROM":
            alias = rest.split(" AS ")[1] if " AS " in rest else ""
            stage = Stage(image.with_name(f"{image.name}-{alias}") if alias else image, arguments=dict(passed))
            stages[alias] = stage
            subprocess.run(["cp", "--archive", "--reflink=auto", base, stage.root], check=True)
        elif name == "ARG":  # before the first FROM it names the base, which is given
            argument, _, default = rest.partition("=")
            stage.arguments[argument] = given.get(argument, default.strip('"'))
        else:
            carry_out(stage, name, rest, stages)
    return stage


def carry_out(stage: Stage, name: str, rest: str, stages: dict[str, Stage]) -> None:
    """Carry out an instruction of a stage."""
    if name == "RUN":
        stage.run(rest)
    elif name == "ENV":
        pairs = (pair.partition("=") for pair in shlex.split(rest))
        stage.values |= {key: value.replace("$PATH", stage.values["PATH"]) for key, _, value in pairs}
    elif name == "COPY":
        copy(stage, rest.split(), stages)
    elif name == "WORKDIR":
        stage.folder = rest
        (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
    elif name == "SHELL":
        stage.shell = json.loads(rest)
    elif name == "USER":
        stage.user = rest


def copy(stage: Stage, words: list[str], stages: dict[str, Stage]) -> None:
    """Copy from the repository, less what the build ignores, or from another stage."""
    if words[0].startswith("--from="):
        source, target = (word.lstrip("/") for word in words[1:])
        root = stages[words[0].removeprefix("--from=")].root
        subprocess.run(["cp", "--archive", root / source, stage.root / target], check=True)
        return
    target = stage.root / stage.folder.lstrip("/")
    for path in files() if words[0] == "." else words[:-1]:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SOURCE / path, target / path)


def files() -> list[str]:
    """What a build has of the repository: files known to git, less those of the ignore file."""
    ignored = set(DOCKERFILE.with_name("Dockerfile.dockerignore").read_text().split())
    listed = subprocess.run(["git", "ls-files"], cwd=SOURCE, check=True, capture_output=True, text=True)
    return [path for path in listed.stdout.splitlines() if path.split("/")[0] not in ignored]


def main() -> None:
    """Build the image, or run a command in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("image", type=Path)
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--pass", action="append", default=[], metavar="NAME", dest="passed")
    parser.add_argument("--run", metavar="COMMAND")
    words = parser.parse_args()
    passed = {name: os.environ[name] for name in words.passed}
    if words.run is None:
        stage = build(words.base, words.image, dict(pair.split("=", 1) for pair in words.build_arg), passed)
        settings(words.image).write_text(json.dumps([stage.values, stage.user, stage.folder]))
    else:
        values, user, folder = json.loads(settings(words.image).read_text())
        users = (line.split(":") for line in (words.image / "etc" / "passwd").read_text().splitlines())
        home = next(fields[5] for fields in users if user in (fields[0], fields[2]))
        Stage(words.image, {"HOME": home} | values, passed, user=user, folder=folder).run(words.run, "--net")


def settings(image: Path) -> Path:
    """Where variables, user and folder of an image are kept."""
    return image.with_name(f"{image.name}.json")


if __name__ == "__main__":
    main()
