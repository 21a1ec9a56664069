"""Where the files for clusters are: `infra/` of a clone, or of an installed package."""

import sys
from pathlib import Path

FOLDER = next(
    folder
    for folder in (Path(__file__).parents[1] / "infra", Path(sys.prefix, "share", "aai", "infra"))
    if folder.is_dir()
)
"""Templates and manifests by target."""
