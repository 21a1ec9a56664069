"""A small collection with bad files, and the whole contents of a bank that it makes: for tests that disturb a build."""

import io
import json
import re
import tarfile
from functools import cache
from pathlib import Path
from pkgutil import resolve_name

import pytest
import soundfile
from deltalake import DeltaTable

from aai.media.images import encode
from aai.tiny.scenes import Scene
from aai.tiny.scenes import render as render_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.workspace import SCHEMAS
from aai.workspace.shards import read_picture
from tasks.runtime.models import open_diffusion
from tasks.runtime.run import Run
from tasks.stages import make_config

TIMES = {"rejected_at", "listed_at", "took_s"}
PLACES = {"shard", "offset"}
LOG_FILE = re.compile(r"_delta_log/(\d{20}(\.checkpoint.*)?\.(json|parquet)|_last_checkpoint)")


def write_files(folder: Path) -> Path:
    """Three sounds and four images that are good; of each kind a bad file, and a tar with a good and a bad member."""
    for name in ("sounds", "images"):
        (folder / name).mkdir(parents=True)
    for number in range(2):
        wave = synthesise("rain", 0.2 + number / 2, number)
        soundfile.write(folder / "sounds" / f"{number}.wav", wave, SAMPLE_RATE_HZ)
    scenes = [Scene("noun", name, None, level, 0) for name in ("rain", "fire") for level in (0.0, 1.0)]
    pictures = [encode(pixels, "png") for pixels in render_scenes(scenes).pixels]
    for number, data in enumerate(pictures[1:]):
        (folder / "images" / f"{number}.png").write_bytes(data)
    data = io.BytesIO()
    soundfile.write(data, synthesise("fire", 0.5, 7), SAMPLE_RATE_HZ, format="WAV")
    for tar, suffix, good in (("sounds/a.tar", "wav", data.getvalue()), ("images/a.tar", "png", pictures[0])):
        (folder / tar).with_name(f"bad.{suffix}").write_bytes(b"no such thing")
        with tarfile.open(folder / tar, "w") as archive:
            for name, member in (("good", good), ("bad", b"nothing")):
                header = tarfile.TarInfo(f"{name}.{suffix}")
                header.size = len(member)
                archive.addfile(header, io.BytesIO(member))
    return folder


def contents(run: Run) -> dict[str, list[str]]:
    """All rows without their times and places, rejects included; rows of pictures with the picture."""
    found = {}
    for name in set(SCHEMAS) - {"runs"}:
        rows = run.workspace.table(name).read().to_pylist()
        for row in rows:
            if name == "renders":
                row["picture"] = len(read_picture(run.workspace, row))
        found[name] = sorted(json.dumps(comparable(row), sort_keys=True) for row in rows)
    return found


def comparable(row: dict) -> dict:
    return {name: rounded(value) for name, value in row.items() if name not in TIMES | PLACES}


def rounded(value):
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 3) + 0.0 if isinstance(value, float) else value


def unexplained(run: Run) -> set[str]:
    """Files of the workspace that neither belong to it nor are among the findings on its health.

    What killed drivers said of themselves has no meaning any more, and is pruned by its age.
    """
    health, root = run.workspace.health(), Path(run.workspace.uri)
    assert (health.missing_shards, health.duplicates) == ([], {})
    known = {*health.orphan_files, *health.orphan_shards, *health.leftovers}
    for name in SCHEMAS:
        if (root / name).exists():
            known |= {str(Path(uri).relative_to(root)) for uri in DeltaTable(root / name).file_uris()}
    known |= set(run.workspace.table("renders").read(["shard"])["shard"].to_pylist())
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    return {
        path for path in found - known if not LOG_FILE.search(path) and not path.startswith(("artifacts/", "drivers/"))
    }


def keep_models(patch: pytest.MonkeyPatch) -> None:
    """Models stay in memory from one run to the next."""
    for name in ("aai.models.clap.AudioEncoder", "aai.models.clip.ImageTextEncoder", "tasks.score.load_judge"):
        patch.setattr(name, cache(resolve_name(name.rpartition(".")[0] + ":" + name.rpartition(".")[2])))
    diffusion = cache(lambda: open_diffusion(make_config()))
    for module in ("tasks.fit", "tasks.render"):
        patch.setattr(f"{module}.open_diffusion", lambda config: diffusion())
