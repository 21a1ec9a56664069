"""Prompts as a text-to-image model reads them: what its text encoders make of words and cues."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from aai.errors import BadItem
from aai.inject import Frame, frame_tokens, spliced
from aai.options import PLACEHOLDER


@dataclass(frozen=True)
class Conditioning:
    """What the UNet attends to."""

    context: Float[Tensor, "rows tokens dim"]

    pooled: Float[Tensor, "rows pooled_dim"] | None = None
    """The whole prompt in one vector, for SDXL; SD 1.x has none."""

    def __getitem__(self, rows: slice | list[int]) -> "Conditioning":
        """Some rows; a list may name a row more than once."""
        return Conditioning(self.context[rows], None if self.pooled is None else self.pooled[rows])


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
        self, prompts: Sequence[str], num_rows: int = 0
    ) -> tuple[Int[Tensor, "prompts tokens"], Bool[Tensor, "prompts tokens"]]:
        """Token ids, padded and cut to the length that the model takes, and where rows of a cue stand.

        Raises:
            BadItem: a prompt has a placeholder but there is no cue, or the cue would be cut off.
        """
        framed = [frame_tokens(self._pieces(prompt), num_rows, self.frame) for prompt in prompts]
        for prompt, (_, places) in zip(prompts, framed, strict=True):
            if PLACEHOLDER in prompt and num_rows == 0:
                raise BadItem(f"prompt {prompt!r}: no cue for its {PLACEHOLDER}: give one, or say it in words")
            if sum(places) < prompt.count(PLACEHOLDER) * num_rows:
                raise BadItem(
                    f"prompt {prompt!r}: {PLACEHOLDER} is beyond the {self.frame.length} tokens that the text encoder "
                    f"reads: shorten the prompt, or move {PLACEHOLDER} to the front"
                )
        both = torch.tensor(framed, device=self.model.device)
        return both[:, 0], both[:, 1].bool()

    def encode(
        self, prompts: Sequence[str], cues: Float[Tensor, "prompts rows dim"] | None
    ) -> tuple[Float[Tensor, "prompts tokens dim"], Float[Tensor, "prompts tokens dim"], Tensor | None]:
        """The last layer's output, normed, that of the layer before it, and the projection of the prompt if any."""
        ids, places = self.tokens(prompts, 0 if cues is None else cues.shape[1])
        with spliced(self.embedding, places, cues):
            output = self.model(ids, output_hidden_states=True)
        return output.last_hidden_state, output.hidden_states[-2], output.get("text_embeds")

    def word_embeddings(self, words: Sequence[str]) -> Float[Tensor, "words dim"]:
        """The mean token embedding of each word or phrase.

        Raises:
            BadItem: a word has no tokens.
        """
        tokenised = self._tokenise(words)
        for word, ids in zip(words, tokenised, strict=True):
            if not ids:
                raise BadItem(f"word {word!r}: the text encoder finds nothing in it: use letters")
        table = self.embedding.weight.detach()
        return torch.stack([table[ids].mean(dim=0) for ids in tokenised])

    def _pieces(self, prompt: str) -> list[list[int]]:
        return self._tokenise(prompt.split(PLACEHOLDER))

    def _tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        # Not verbose: a warning about long texts is none of the user's, who is told by `tokens`.
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids
