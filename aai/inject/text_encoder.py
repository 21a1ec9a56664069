"""Prompts as a text-to-image model reads them: what its text encoders make of words and cues."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from aai.errors import BadItem
from aai.inject.prompt import Prompt
from aai.inject.splice import NO_ROW, Frame, frame_tokens, spliced


@dataclass(frozen=True)
class Conditioning:
    """What the UNet attends to."""

    context: Float[Tensor, "rows tokens dim"]

    pooled: Float[Tensor, "rows pooled_dim"] | None = None
    """The whole prompt in one vector, for SDXL; SD 1.x has none."""

    def __getitem__(self, rows: slice | list[int]) -> "Conditioning":
        """Some rows; a list may name a row more than once."""
        return Conditioning(self.context[rows], None if self.pooled is None else self.pooled[rows])

    @staticmethod
    def join(parts: Sequence["Conditioning"]) -> "Conditioning":
        """One after the other."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditioning(torch.cat([part.context for part in parts]), torch.cat(pooled) if pooled else None)


class TextEncoder:
    """One text encoder of a pipeline, with its tokenizer."""

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel | CLIPTextModelWithProjection) -> None:
        self.tokenizer, self.model = tokenizer, model
        ends = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        self.frame = Frame(*ends, length=tokenizer.model_max_length)

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding."""
        return self.model.get_input_embeddings()

    def tokens(
        self, prompts: Sequence[Prompt], num_rows: int = 0
    ) -> tuple[Int[Tensor, "prompts tokens"], Int[Tensor, "prompts tokens"]]:
        """Token ids, padded and cut to the length that the model takes, and which row of the cues stands at each.

        Raises:
            BadItem: a prompt has a placeholder but there is no cue, its cues do not share the rows evenly, or one would
                be cut off.
        """
        both = torch.tensor([self._framed(prompt, num_rows) for prompt in prompts], device=self.model.device)
        return both[:, 0], both[:, 1]

    def encode(
        self, prompts: Sequence[Prompt], cues: Float[Tensor, "prompts rows dim"] | None
    ) -> tuple[Float[Tensor, "prompts tokens dim"], Float[Tensor, "prompts tokens dim"], Tensor | None]:
        """The last layer's output, normed, that of the layer before it, and the projection of the prompt if any.

        A prompt's cues are the rows of its different names, one after the other.
        """
        ids, rows = self.tokens(prompts, 0 if cues is None else cues.shape[1])
        with spliced(self.embedding, rows, cues):
            output = self.model(ids, output_hidden_states=True)
        return output.last_hidden_state, output.hidden_states[-2], output.get("text_embeds")

    def word_embeddings(self, words: Sequence[str]) -> Float[Tensor, "words dim"]:
        """The mean token embedding of each word or phrase.

        Raises:
            BadItem: a word has no tokens.
        """
        tokenised = self.tokenise(words)
        for word, ids in zip(words, tokenised, strict=True):
            if not ids:
                raise BadItem(f"word {word!r}: the text encoder finds nothing in it: use letters")
        table = self.embedding.weight.detach()
        return torch.stack([table[ids].mean(dim=0) for ids in tokenised])

    def _framed(self, prompt: Prompt, num_rows: int) -> tuple[list[int], list[int]]:
        shares = shares_of(prompt, num_rows)
        slots = [shares[slot.name] for slot in prompt.slots]
        ids, rows = frame_tokens(self.tokenise(prompt.pieces), slots, self.frame)
        if len(rows) - rows.count(NO_ROW) < sum(map(len, slots)):
            cut = prompt.slots[-1]
            raise BadItem(
                f"prompt {str(prompt)!r}: {cut} is beyond the {self.frame.length} tokens that the text encoder reads: "
                f"shorten the prompt, or move {cut} to the front"
            )
        return ids, rows

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of texts, without what frames a prompt."""
        # Not verbose: a warning about long texts is none of the user's, who is told by `tokens`.
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids


def shares_of(prompt: Prompt, num_rows: int) -> dict[str, range]:
    """Which of the rows of a prompt's cues are whose.

    Raises:
        BadItem: there are none, or the cues do not share them evenly.
    """
    num = len(prompt.names)
    if num and not num_rows:
        raise BadItem(f"prompt {str(prompt)!r}: no cue for its {prompt.slots[0]}: give one, or say it in words")
    if num and num_rows % num:
        raise BadItem(f"prompt {str(prompt)!r}: {num_rows} rows are not {num} cues of equally many: give cues alike")
    each = num_rows // max(num, 1)
    return {name: range(number * each, (number + 1) * each) for number, name in enumerate(prompt.names)}
