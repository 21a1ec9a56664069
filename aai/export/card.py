"""The card that lies beside exported cues: what they are, whose the recordings are, and how to load them."""

from collections import Counter
from collections.abc import Sequence

from aai.export.files import INDEX, Entry

_MOST_RECORDINGS = 200
_COMMIT_DIGITS = 40
_UNKNOWN = "**none is known**"

_METHODS = {
    "adapter": "a network that all clips share predicts a cue from the sound, which is then refined by denoising "
    "pictures that were retrieved for that sound",
    "mapper": "a network that all clips share predicts it from the sound",
    "inversion": "textual inversion on pictures that were retrieved for that sound",
}


def model_card(entries: Sequence[Entry], is_xl: bool, version: str) -> str:
    """The card of cues of one recipe as Markdown; the same for the same cues."""
    first = entries[0]
    parts = [
        _front_matter(first),
        _what(entries, version),
        _diffusers(first, is_xl),
        _others(first),
        _licences(entries),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(first: Entry) -> str:
    lines = ["license: other", "license_name: as-the-recordings", f"license_link: {INDEX}"]
    lines += ["library_name: diffusers", "tags: [textual_inversion, stable-diffusion, audio, aai]"]
    if _is_on_hub(first):
        lines.append(f"base_model: {first.base_model}")
    return "\n".join(["---", *lines, "---"])


def _what(entries: Sequence[Entry], version: str) -> str:
    first = entries[0]
    labels = Counter(entry.label or "(no label)" for entry in entries)
    most = ", ".join(f"{_plain(label)} ({num:,})" for label, num in labels.most_common(10))
    more = f", and {len(labels) - 10:,} more" if len(labels) > 10 else ""
    kind = "at commit" if _is_on_hub(first) else "a folder, whose files have the digest"
    num = "One AudioCue" if len(entries) == 1 else f"{len(entries):,} AudioCues"
    return f"""\
# Sounds as words: AudioCues

{num}: what a text-to-image model is to see where a sound is heard, as the embeddings of a word that no
vocabulary has. In a prompt it stands as a noun (`a photo of …`), a verb (`a … city`) or an adjective (`a forest in the
style of …`). Made by AAI {version}, an implementation of *Align, Adapt and Inject* (arXiv 2306.11504).

| | |
|---|---|
| sounds | {most}{more} |
| base model | {_plain(first.base_model)}, {kind} `{first.base_revision}` |
| method | `{first.method}`: {_METHODS[first.method]} |
| recipe | `{first.recipe}` |
| files | one `.safetensors` per cue; `{INDEX}` says of each what it is and whose the recording is |

Cues are for that base model. With others that have the same text encoder they work as textual inversions do: more or
less. Pictures made with them are made by a model: say so."""


def _diffusers(first: Entry, is_xl: bool) -> str:
    revision = f', revision="{first.base_revision}"' if _is_on_hub(first) else ""
    load = f'.from_pretrained("{first.base_model}"{revision}, dtype=torch.float32)'
    if not is_xl:
        return f"""\
## diffusers

```python
import torch
from diffusers import StableDiffusionPipeline

pipe = StableDiffusionPipeline{load}
pipe.load_textual_inversion("{first.file}", token="{first.token}")
image = pipe("a photo of {first.token}").images[0]
```"""
    return f"""\
## diffusers

```python
import torch
from diffusers import StableDiffusionXLPipeline
from safetensors.torch import load_file

pipe = StableDiffusionXLPipeline{load}
# Without this, an added token is taken for the prompt's end, and what the whole prompt says is read there.
pipe.text_encoder_2.text_model.eos_token_id = pipe.tokenizer_2.eos_token_id

cue, token = load_file("{first.file}"), "{first.token}"
pipe.load_textual_inversion(cue["clip_l"], token, pipe.tokenizer, pipe.text_encoder)
pipe.load_textual_inversion(cue["clip_g"], token, pipe.tokenizer_2, pipe.text_encoder_2)
image = pipe(f"a photo of {{token}}").images[0]
```"""


def _others(first: Entry) -> str:
    name = first.token.strip("<>")
    return f"""\
## AUTOMATIC1111's web UI

Put the files into `embeddings/`, or a folder in there, and write a file's name without its ending into a prompt:

    a photo of {name}

## ComfyUI

Put the files into `models/embeddings/`, or a folder in there, and write into a prompt:

    a photo of embedding:{name}"""


def _licences(entries: Sequence[Entry]) -> str:
    counts = Counter(_plain(entry.licence) or _UNKNOWN for entry in entries).most_common()
    lines = [f"- {licence}: {num:,} cue{'s' * (num > 1)}" for licence, num in counts]
    warning = "\nWhere none is known, ask whoever made the recording before you share its cue.\n"
    rows = [
        f"| `{each.token.strip('<>')}` | {_plain(each.label)} | {_plain(each.recording)} | "
        f"{_plain(each.licence) or _UNKNOWN} | {_plain(each.attribution)} |"
        for each in entries[:_MOST_RECORDINGS]
    ]
    rest = len(entries) - len(rows)
    more = f"\n\n{rest:,} more are in `{INDEX}`." if rest else ""
    return f"""\
## Licences

Each cue comes from one recording, under the licence that the recording came with:

{chr(10).join(lines)}
{warning if _UNKNOWN in dict(counts) else ""}
The base model has a licence of its own. The recordings:

| cue | label | recording | licence | attribution |
|---|---|---|---|---|
{chr(10).join(rows)}{more}"""


def _is_on_hub(entry: Entry) -> bool:
    """Whether the base model's revision is a commit on the hub; a folder's digest is shorter."""
    return len(entry.base_revision) == _COMMIT_DIGITS


def _plain(text: str) -> str:
    """A text that means nothing to Markdown, in one line."""
    return "".join(f"\\{each}" if each in "\\`*_|<>[]#" else each for each in " ".join(text.split()))
