"""Submissions of small configurations."""

from pathlib import Path
from typing import Any

import yaml

from flows.submit.submission import Submission, make_submission
from flows.submit.target import Target

ON_BUCKETS = {"workspace": "s3://bucket/bank", "audio": ["s3://bucket/sounds"], "images": ["s3://bucket/images"]}


def submission(folder: Path, words: tuple[str, ...] = ("build", "-c", "aai.yaml"), **keys: Any) -> Submission:
    """A command with a configuration in a folder; `keys` are further keys, such as `submit`."""
    path = folder / "aai.yaml"
    path.write_text(yaml.safe_dump(ON_BUCKETS | keys))
    jobs = folder / "jobs.yaml" if words[0] == "render" else None
    return make_submission(words, path, {}, jobs)


def check(target: Target, made: Submission) -> None:
    """Raise the first fault of a submission, as if the target's program were there.

    Raises:
        BadConfig: there is one.
    """
    for faults in (target.faults, target.trial):
        for fault in faults(made):
            raise fault
