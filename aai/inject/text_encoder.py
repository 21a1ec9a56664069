"""Prompts to text conditioning: tokenisation and text encoders, with cues in place of words."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from aai.errors import BadItem
from aai.inject import context
from aai.inject.prompt import Prompt
from aai.inject.splice import SpecialTokens, build_token_ids, spliced


@dataclass(frozen=True)
class Conditioning:
    """Text conditioning of the UNet."""

    context: Float[Tensor, "batch tokens dim"]
    """Encoder hidden states, which the UNet's cross-attention reads."""

    pooled: Float[Tensor, "batch pooled_dim"] | None = None
    """Pooled prompt embedding of SDXL; none for SD 1.x."""

    def __getitem__(self, indices: slice | list[int]) -> "Conditioning":
        """Select batch elements; a list may repeat an index."""
        return Conditioning(self.context[indices], None if self.pooled is None else self.pooled[indices])

    @staticmethod
    def join(parts: Sequence["Conditioning"]) -> "Conditioning":
        """Concatenate along the batch dimension."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        return Conditioning(torch.cat([part.context for part in parts]), torch.cat(pooled) if pooled else None)


class TextEncoder:
    """One text encoder of a pipeline, with its tokenizer."""

    def __init__(self, tokenizer: CLIPTokenizer, model: CLIPTextModel | CLIPTextModelWithProjection) -> None:
        self.tokenizer, self.model = tokenizer, model
        ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
        length = min(tokenizer.model_max_length, model.config.max_position_embeddings)
        self.special_tokens = SpecialTokens(*ids, length=length)

    @property
    def embedding(self) -> nn.Embedding:
        """The token embedding layer."""
        return self.model.get_input_embeddings()

    def token_ids(
        self, prompts: Sequence[Prompt], num_vectors: int = 0
    ) -> tuple[Int[Tensor, "prompts tokens"], Int[Tensor, "prompts tokens"]]:
        """Token ids, padded to the model's length, and the cue vector index at each position.

        Raises:
            BadItem: a prompt has a placeholder but there are no cue vectors, these do not divide evenly among its
                cues, or the prompt is longer than the model's context: nothing is truncated.
        """
        distinct = {prompt: self._token_ids(prompt, num_vectors) for prompt in dict.fromkeys(prompts)}
        both = torch.tensor([distinct[prompt] for prompt in prompts], device=self.model.device)
        return both[:, 0], both[:, 1]

    def encode(
        self, prompts: Sequence[Prompt], cues: Float[Tensor, "prompts vectors dim"] | None
    ) -> tuple[Float[Tensor, "prompts tokens dim"], Float[Tensor, "prompts tokens dim"], Tensor | None]:
        """The normalised last hidden state, the penultimate one, and the projected pooled embedding if there is one.

        A prompt's cue vectors are those of its distinct cue names, concatenated in order of first appearance.
        """
        ids, indices = self.token_ids(prompts, 0 if cues is None else cues.shape[1])
        with spliced(self.embedding, indices, cues):
            output = self.model(ids, output_hidden_states=True)
        return output.last_hidden_state, output.hidden_states[-2], output.get("text_embeds")

    def word_embeddings(self, words: Sequence[str]) -> Float[Tensor, "words dim"]:
        """The mean token embedding of each word or phrase.

        Raises:
            BadItem: a word has no tokens.
        """
        tokens = self.tokenise(words)
        for word, ids in zip(words, tokens, strict=True):
            if not ids:
                raise BadItem(f"the text encoder has no tokens for the word {word!r}: use letters")
        table = self.embedding.weight.detach()
        return torch.stack([table[ids].mean(dim=0) for ids in tokens])

    def tokenise(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens, padding or truncation."""
        # verbose=False: the tokenizer would warn about long texts, which `token_ids` refuses.
        return self.tokenizer(list(texts), add_special_tokens=False, verbose=False).input_ids

    def _token_ids(self, prompt: Prompt, num_vectors: int) -> tuple[list[int], list[int]]:
        ranges = vector_ranges(prompt, num_vectors)
        slots, pieces = [ranges[slot.name] for slot in prompt.slots], self.tokenise(prompt.pieces)
        sizes, limit = [len(slot) for slot in slots], self.special_tokens.max_tokens
        if fault := context.fault_of(prompt, pieces, sizes, limit, self.tokenizer.decode):
            raise fault
        return build_token_ids(pieces, slots, self.special_tokens)


def vector_ranges(prompt: Prompt, num_vectors: int) -> dict[str, range]:
    """The indices of each cue's vectors among all cue vectors of a prompt, by cue name.

    Raises:
        BadItem: there are no vectors, or they do not divide evenly among the cues.
    """
    num_cues = len(prompt.names)
    if num_cues and not num_vectors:
        raise BadItem(f"prompt {str(prompt)!r}: no cue for {prompt.slots[0]}: give one, or use words instead")
    if num_cues and num_vectors % num_cues:
        raise BadItem(
            f"prompt {str(prompt)!r}: {num_vectors} vectors do not divide evenly among {num_cues} cues: "
            "use cues with equally many tokens"
        )
    size = num_vectors // max(num_cues, 1)
    return {name: range(number * size, (number + 1) * size) for number, name in enumerate(prompt.names)}
