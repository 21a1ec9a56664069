"""The model card of a trained aligner."""

from collections.abc import Mapping, Sequence
from typing import Any


def aligner_card(facts: Mapping[str, Any], options: Mapping[str, Any], notes: Sequence[str], version: str) -> str:
    """A card in Markdown: what the aligner is for, what it was trained on, and how to use it."""
    rows = "\n".join(f"| {name} | {_plain(value)} |" for name, value in facts.items())
    settings = "\n".join(f"| `{name}` | {_plain(value)} |" for name, value in options.items())
    left_out = "".join(f"- {note}\n" for note in notes) or "- nothing\n"
    return f"""\
---
license: other
license_name: as-the-training-data
library_name: aai
tags: [audio, image-retrieval, aai]
---

# Aligner: from sounds to images

A projector from the audio encoder's space to the image-text encoder's, both of which are frozen. It fits these encoders
only. Trained by AAI {version}.

| | |
|---|---|
{rows}

Left out or missing in the training:

{left_out}
## Use

```yaml
models:
  aligner: this/folder
align:
  method: trained
```

## Options

| | |
|---|---|
{settings}

## Limits

It knows what its training data show. `aai align eval` measures it on pairs that it was not trained on; sounds of other
kinds still get some image.
"""


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(own)}" for name, own in value.items())
    text = f"{value:.3f}" if isinstance(value, float) and abs(value) >= 0.001 else f"{value}"
    return text.replace("|", r"\|").replace("\n", " ")
