"""The base class of all options.

Options stand beside their owner. Where the owner imports torch or FAISS they have a module of their own in its package
(`aai.cues.options`), because planning a run reads options and loads neither.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.config import JsonDict

PLACEHOLDER = "*"
"""Where a cue stands in a prompt."""

SPEED_ONLY: JsonDict = {"speed_only": True}
"""Marks a field (`json_schema_extra=SPEED_ONLY`) that changes how long a result takes, and not the result."""


class Options(BaseModel):
    """Options of one owner; a field has a default, bounds, and a sentence below it that becomes its description."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    def settings(self) -> dict[str, Any]:
        """The values that results depend on, as plain data."""
        return {
            name: value
            for name, value in self.model_dump(mode="json").items()
            if type(self).model_fields[name].json_schema_extra != SPEED_ONLY
        }
