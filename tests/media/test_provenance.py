"""The XMP packet is valid XML, holds the IPTC properties, and survives every image format."""

import io
import json
from typing import Literal
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from aai.media.images import encode
from aai.media.provenance import COMPOSITE, GENERATED, xmp_packet

IPTC, AAI = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}", "{urn:aai:1}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description"
SETTINGS = {"steps": 25, "seed": 7}


def properties(packet: bytes) -> dict[str, str]:
    """The properties of a packet, by their qualified names."""
    description = ElementTree.fromstring(packet).find(f".//{RDF}")
    assert description is not None
    return description.attrib


def test_a_packet_names_source_type_model_prompt_and_settings():
    held = properties(xmp_packet("someone/model", "a" * 40, "a photo of *", "0.1.0", SETTINGS))
    assert held[f"{IPTC}DigitalSourceType"] == GENERATED
    assert held[f"{IPTC}AISystemUsed"] == "someone/model"
    assert held[f"{IPTC}AISystemVersionUsed"] == "a" * 40
    assert held[f"{IPTC}AIPromptInformation"] == "a photo of *"
    assert json.loads(held[f"{AAI}asked"]) == SETTINGS


def test_an_edited_photo_is_a_composite():
    packet = xmp_packet("model", "1", "a * city", "0.1.0", {}, COMPOSITE)
    assert properties(packet)[f"{IPTC}DigitalSourceType"] == COMPOSITE


@pytest.mark.parametrize("prompt", ["\"<rain> & 'snow'\"", "pluie d'été", "a\x00b\x1bc\ud800"])
def test_any_prompt_is_valid_xml(prompt):
    held = properties(xmp_packet("model", "1", prompt, "0.1.0", {}))
    assert held[f"{IPTC}AIPromptInformation"] == "".join(filter(str.isprintable, prompt))


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_the_packet_is_in_the_image_file(kind: Literal["png", "jpeg", "webp"]):
    packet = xmp_packet("model", "1", "rain", "0.1.0", {})
    image = Image.open(io.BytesIO(encode(np.zeros((16, 16, 3), np.uint8), kind, xmp=packet)))
    info = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    assert (info.encode() if isinstance(info, str) else info) == packet
