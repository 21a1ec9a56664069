"""The base of all options: frozen, and a key that is not known is an error."""

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Options of one owner; a field has a default, a bound and a sentence."""

    model_config = ConfigDict(frozen=True, extra="forbid")
