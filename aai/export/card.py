"""Model card of exported cues: description, licences of the recordings, and code to load them."""

import re
from collections import Counter
from collections.abc import Sequence

from aai.export.files import INDEX, Entry

_MAX_RECORDINGS = 200
_COMMIT_DIGITS = 40
_UNKNOWN = "**unknown**"

_METHODS = {
    "adapter": "a mapper shared by all clips predicts the cue from the audio embedding; the cue is then refined with "
    "the denoising loss of images retrieved for the clip",
    "mapper": "a mapper shared by all clips predicts the cue from the audio embedding",
    "inversion": "textual inversion on images retrieved for the clip",
}


def model_card(entries: Sequence[Entry], is_xl: bool, version: str) -> str:
    """Markdown card of cues with one recipe; deterministic."""
    first = entries[0]
    parts = [
        _front_matter(first),
        _description(entries, version),
        _diffusers(first, is_xl),
        _user_interfaces(first),
        _licences(entries),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(first: Entry) -> str:
    lines = ["license: other", "license_name: as-the-recordings", f"license_link: {INDEX}"]
    lines += ["library_name: diffusers", "tags: [textual_inversion, stable-diffusion, audio, aai]"]
    if _is_on_hub(first):
        lines.append(f"base_model: {first.base_model}")
    return "\n".join(["---", *lines, "---"])


def _description(entries: Sequence[Entry], version: str) -> str:
    first = entries[0]
    labels = Counter(entry.label or "(no label)" for entry in entries)
    most = ", ".join(f"{_escaped(label)} ({num:,})" for label, num in labels.most_common(10))
    more = f", and {len(labels) - 10:,} more" if len(labels) > 10 else ""
    kind = "at commit" if _is_on_hub(first) else "a folder, whose files have the digest"
    num = "One AudioCue" if len(entries) == 1 else f"{len(entries):,} AudioCues"
    return f"""\
# AudioCues: sounds as pseudo-words

{num}: textual-inversion embeddings, each computed from a sound. In a prompt, a cue is a noun (`a photo of …`), a
verb (`a … city`) or an adjective (`a forest in the style of …`). Created by AAI {version}, an implementation of *Align,
Adapt and Inject* (arXiv 2306.11504).

| | |
|---|---|
| sounds | {most}{more} |
| base model | {_escaped(first.base_model)}, {kind} `{first.base_revision}` |
| method | `{first.method}`: {_METHODS[first.method]} |
| recipe | `{first.recipe}` |
| files | one `.safetensors` per cue; `{INDEX}` has label, licence and attribution of each |

Cues are fitted for that base model. Like any textual inversion, they may work with other models that have the same text
encoder. Label images created with them as generated."""


def _diffusers(first: Entry, is_xl: bool) -> str:
    revision = f', revision="{first.base_revision}"' if _is_on_hub(first) else ""
    load = f'.from_pretrained("{first.base_model}"{revision}, dtype=torch.float32)'
    return _sdxl_code(first, load) if is_xl else _sd_code(first, load)


def _sd_code(first: Entry, load: str) -> str:
    return f"""\
## diffusers

```python
import torch
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline{load}
pipe.load_textual_inversion("{first.file}", token="{first.token}")
image = pipe("a photo of {first.token}").images[0]
```"""


def _sdxl_code(first: Entry, load: str) -> str:
    return f"""\
## diffusers

```python
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

pipe = StableDiffusionXLPipeline{load}
# Otherwise the pooled embedding is taken at the added token instead of the end-of-text token.
pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id

cue, token = load_file("{first.file}"), "{first.token}"
pipe.load_textual_inversion(cue["clip_l"], token, pipe.tokenizer, pipe.text_encoder)
pipe.load_textual_inversion(cue["clip_g"], token, pipe.tokenizer_2, pipe.text_encoder_2)
image = pipe(f"a photo of {{token}}").images[0]
```"""


def _user_interfaces(first: Entry) -> str:
    name = first.token.strip("<>")
    return f"""\
## AUTOMATIC1111's web UI

Copy the files into `embeddings/` or a subfolder, and use the file name without extension in a prompt:

    a photo of {name}

## ComfyUI

Copy the files into `models/embeddings/` or a subfolder, and use in a prompt:

    a photo of embedding:{name}"""


def _licences(entries: Sequence[Entry]) -> str:
    counts = Counter(_escaped(entry.licence) or _UNKNOWN for entry in entries).most_common()
    lines = [f"- {licence}: {num:,} cue{'s' * (num > 1)}" for licence, num in counts]
    warning = "\nIf the licence is unknown, ask the author of the recording before you share its cue.\n"
    rows = [
        f"| `{entry.token.strip('<>')}` | {_escaped(entry.label)} | {_escaped(entry.recording)} | "
        f"{_escaped(entry.licence) or _UNKNOWN} | {_escaped(entry.attribution)} |"
        for entry in entries[:_MAX_RECORDINGS]
    ]
    rest = len(entries) - len(rows)
    more = f"\n\n{rest:,} more are in `{INDEX}`." if rest else ""
    return f"""\
## Licences

Each cue is derived from one recording, under the licence of that recording:

{chr(10).join(lines)}
{warning if _UNKNOWN in dict(counts) else ""}
The base model has its own licence. The recordings:

| cue | label | recording | licence | attribution |
|---|---|---|---|---|
{chr(10).join(rows)}{more}"""


def _is_on_hub(entry: Entry) -> bool:
    """Whether the base model's revision is a commit on the Hugging Face hub; the digest of a folder is shorter."""
    return len(entry.base_revision) == _COMMIT_DIGITS


def _escaped(text: str) -> str:
    """Markdown-escaped text, in one line."""
    return re.sub(r"([\\`*_|<>\[\]#])", r"\\\1", " ".join(text.split()))
