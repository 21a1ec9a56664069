"""The base class of all options.

Options stand beside their owner. Where the owner imports torch or FAISS they have a module of their own in its package
(`aai.cues.options`), because planning a run reads options and loads neither.
"""

from pydantic import BaseModel, ConfigDict

PLACEHOLDER = "*"
"""Where a cue stands in a prompt."""


class Options(BaseModel):
    """Options of one owner; a field has a default, a bound and a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
