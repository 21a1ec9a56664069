"""The model card of a trained aligner."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from aai.align.made_for import card_metadata

LICENCES = "licences"
"""The fact with the number of sounds and of images by licence."""

_FROZEN = "both of which are frozen. It fits these encoders"
_TUNED = """which is frozen. The last blocks of the
audio encoder were trained with it, and are in the folder `audio` beside this one: it fits that encoder"""


def aligner_card(
    facts: Mapping[str, Any],
    options: Mapping[str, Any],
    notes: Sequence[str],
    encoders: Mapping[str, tuple[str, str]],
    version: str,
) -> str:
    """A card in Markdown: what the aligner is for, what it was trained on, and how to use it.

    Args:
        facts: what it was trained on.
        options: those of the training.
        notes: what was left out.
        encoders: name and revision of the encoders that it is to be used with, by role.
        version: of AAI.
    """
    rows = "\n".join(f"| {name} | {_plain(value)} |" for name, value in facts.items() if name != LICENCES)
    settings = "\n".join(f"| `{name}` | {_plain(value)} |" for name, value in options.items())
    left_out = "".join(f"- {note}\n" for note in notes) or "- nothing\n"
    is_tuned = bool(options.get("tower_blocks"))
    return f"""\
---
license: other
license_name: of-encoders-and-training-data
license_link: README.md
library_name: aai
tags: [audio, image-retrieval, aai]
{yaml.safe_dump(card_metadata(encoders), sort_keys=False)}---

# Aligner: from sounds to images

A projector from the audio encoder's space to the image-text encoder's, {_TUNED if is_tuned else _FROZEN}
only. Trained by AAI {version}.

| | |
|---|---|
{rows}

Left out or missing in the training:

{left_out}
## Licence

{_licences(facts.get(LICENCES))}
## Use

```yaml
models:
{"  audio: this/folder/../audio" + chr(10) if is_tuned else ""}  aligner: this/folder
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


def _licences(counts: Mapping[str, Mapping[str, int]] | None) -> str:
    """What is known of the licences of the files that it was trained on."""
    if not counts:
        return "AAI sets none: the encoders' licences apply, and the captions' one.\n"
    lines = [
        f"- {kind}: {', '.join(f'{_plain(name)} ({num:,})' for name, num in by_licence.items())}\n"
        for kind, by_licence in counts.items()
    ]
    return f"""\
AAI sets none: the encoders' licences apply, and those of the files that it was trained on, as their metadata say:

{"".join(lines)}"""


def encoder_card(facts: Mapping[str, Any], options: Mapping[str, Any], version: str) -> str:
    """A card in Markdown of an audio encoder that was trained with an aligner."""
    blocks, rate = options["tower_blocks"], _plain(options["tower_learning_rate"])
    return f"""\
---
license: other
license_name: as-the-original-and-the-training-data
library_name: transformers
tags: [audio, clap, aai]
---

# Audio encoder: CLAP, trained with an aligner

{facts["audio encoder"]}, of which the last {blocks} blocks, the last normalisation and the projection were
trained with the aligner in the folder `aligner` beside this one (learning rate {rate}); all else is as it was.
Trained by AAI {version}.

Its text encoder was not trained: sounds and captions are less similar than in the original. For what compares
sounds with captions (`align.method: labels`, `fit.method: captions`) use the original.
"""


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_plain(own)}" for name, own in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else f"{value}"
    return text.replace("|", r"\|").replace("\n", " ")
