"""Export of cues as textual-inversion files for diffusers, AUTOMATIC1111 and ComfyUI, with a model card."""

from aai.export.card import model_card
from aai.export.files import CARD, INDEX, Entry, Folder, Program, attribution, name_of, recording

__all__ = ["CARD", "INDEX", "Entry", "Folder", "Program", "attribution", "model_card", "name_of", "recording"]
