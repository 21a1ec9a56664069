"""XMP/IPTC provenance metadata of generated images."""

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC digital source type of an image that a trained model generated."""

COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC digital source type of an image with generated parts, as an edited photo."""

_NAMESPACES = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "aai": "urn:aai:1",  # MARK
}
MARK = b"urn:aai:1"
"""Bytes that each of our pictures has."""

_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" {}/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def xmp_packet(
    model: str, revision: str, prompt: str, version: str, settings: Mapping[str, Any], source_type: str = GENERATED
) -> bytes:
    """XMP packet of a generated image, for `aai.media.images.encode`; `settings`, as JSON, are enough to reproduce it.

    Source: IPTC Photo Metadata Standard 2025.1, "Digital Source Type", "AI System Used", "AI System Version Used" and
    "AI Prompt Information".
    """
    properties = {f"xmlns:{name}": uri for name, uri in _NAMESPACES.items()}
    properties |= {
        "xmp:CreatorTool": f"AAI {version}",
        "Iptc4xmpExt:DigitalSourceType": source_type,
        "Iptc4xmpExt:AISystemUsed": model,
        "Iptc4xmpExt:AISystemVersionUsed": revision,
        "Iptc4xmpExt:AIPromptInformation": prompt,
        "aai:asked": json.dumps(settings, sort_keys=True),
    }
    return _PACKET.format(
        " ".join(f"{key}={quoteattr(_printable(value))}" for key, value in properties.items())
    ).encode()


def _printable(text: str) -> str:
    """Drop characters that XML 1.0 does not allow, not even escaped."""
    return "".join(character for character in text if character.isprintable() or character in "\t\n\r")
