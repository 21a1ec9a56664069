"""Tables of a bank as the stages before the measured one leave them."""

from collections.abc import Sequence

import numpy as np

from aai.identity import clip_id, content_id
from bench.gpu.sources import SIDE, Member
from tasks.runtime.run import Run
from tests.bank import append, unit_vectors

_NUM_NEIGHBOURS = 5
_SPREAD = 0.02  # of token embeddings


def add_images(run: Run, members: Sequence[Member]) -> list[str]:
    """Ingested images of one tar; returns their ids."""
    tar, ids = members[0].uri, [member.content_id for member in members]
    tar_id = content_id(tar.encode())
    append(run, "image_listing", [{"file_id": tar_id, "uri": tar, "is_tar": True}])
    rows = [
        {"tar_id": tar_id, "file_id": f"{tar_id}{n}", "name": f"{n}.jpg", "offset": each.offset}
        | {"num_bytes": each.num_bytes}
        for n, each in enumerate(members)
    ]
    append(run, "image_members", rows)
    append(run, "image_files", [{"file_id": f"{tar_id}{n}", "content_id": id} for n, id in enumerate(ids)])
    append(run, "images", [{"image_id": id, "width": SIDE, "height": SIDE, "format": "JPEG"} for id in ids])
    return ids


def add_clips(run: Run, members: Sequence[Member], duration_s: float) -> list[str]:
    """Ingested recordings of a clip each; returns the clips' ids."""
    files = [{"file_id": content_id(each.uri.encode()), "content_id": each.content_id} for each in members]
    listed = {"label": "rain", "attributes": "{}"}
    uris = [{"file_id": file["file_id"], "uri": each.uri} for file, each in zip(files, members, strict=True)]
    append(run, "audio_listing", [uri | listed for uri in uris])
    append(run, "audio_files", files)
    ids = [clip_id(each.content_id, 0.0, duration_s) for each in members]
    rows = [
        {"clip_id": id, "content_id": each.content_id, "duration_s": duration_s}
        for id, each in zip(ids, members, strict=True)
    ]
    append(run, "clips", rows)
    return ids


def absent_recordings(num: int, first: int = 0) -> list[Member]:
    """Recordings that no later stage opens."""
    return [Member(content_id(b"recording %d" % n), f"/sounds/{n}.wav") for n in range(first, first + num)]


def add_neighbours(run: Run, clips: Sequence[str], images: Sequence[str], dim: int) -> None:
    """Aligned vectors of clips, and images that were retrieved for them."""
    vectors, rng = unit_vectors(len(clips), dim), np.random.default_rng(0)
    append(run, "aligned_vectors", [{"clip_id": id, "vector": v} for id, v in zip(clips, vectors, strict=True)])
    num = min(_NUM_NEIGHBOURS, len(images))
    rows = [
        {"clip_id": id, "image_ids": [images[n] for n in rng.choice(len(images), num, replace=False)]}
        | {"similarities": [0.5] * num}
        for id in clips
    ]
    append(run, "neighbours", rows)


def add_cues(run: Run, clips: Sequence[str], dim: int, num_tokens: int = 2) -> None:
    """Cues of clips, which are noise."""
    noise = np.random.default_rng(0).normal(0, _SPREAD, (len(clips), num_tokens * dim)).astype(np.float32)
    rows = [
        {"clip_id": id, "vector": vector, "num_tokens": num_tokens, "dim": dim, "seed": number}
        for number, (id, vector) in enumerate(zip(clips, noise, strict=True))
    ]
    append(run, "cues", rows)
