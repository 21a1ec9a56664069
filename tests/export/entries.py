"""Entries of an export, shared by tests."""

from dataclasses import replace

from aai.export import Entry

CLIP = "0123456789abcdef" * 2
ENTRY = Entry(
    file="aai-rain-0123456789ab.safetensors",
    token="<aai-rain-0123456789ab>",
    clip_id=CLIP,
    label="rain",
    licence="CC-BY 4.0",
    attribution="author: Ann",
    recording="roof.flac",
    start_s="0.0",
    duration_s="5.0",
    method="mapper",
    base_model="someone/pictures",
    base_revision="a" * 40,
    recipe="abcdef012345",
    program="diffusers",
)
OTHER = replace(
    ENTRY,
    file="aai-wind-ba9876543210.safetensors",
    token="<aai-wind-ba9876543210>",
    clip_id=CLIP[::-1],
    label="wind|*gale*",
)
