"""What a generated picture says of itself: that no camera took it, and what was asked for."""

import json
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import quoteattr

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media made by a model that was trained on others."""

COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
"""IPTC's term for media a part of which such a model made, as of an edited photo."""

_NAMESPACES = {
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "Iptc4xmpExt": "http://iptc.org/std/Iptc4xmpExt/2008-02-29/",
    "aai": "urn:aai:1",
}
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" {}/></rdf:RDF></x:xmpmeta><?xpacket end="r"?>'
)


def packet(
    model: str, revision: str, prompt: str, version: str, asked: Mapping[str, Any], kind: str = GENERATED
) -> bytes:
    """XMP metadata of a generated picture, for `aai.media.images.encode`; `asked` is kept as JSON, to be made again by.

    Source: IPTC Photo Metadata Standard 2025.1, "Digital Source Type", "AI System Used" and what follows it.
    """
    said = {f"xmlns:{name}": uri for name, uri in _NAMESPACES.items()}
    said |= {
        "xmp:CreatorTool": f"AAI {version}",
        "Iptc4xmpExt:DigitalSourceType": kind,
        "Iptc4xmpExt:AISystemUsed": model,
        "Iptc4xmpExt:AISystemVersionUsed": revision,
        "Iptc4xmpExt:AIPromptInformation": prompt,
        "aai:asked": json.dumps(asked, sort_keys=True),
    }
    return _PACKET.format(" ".join(f"{key}={quoteattr(_allowed(value))}" for key, value in said.items())).encode()


def _allowed(text: str) -> str:
    """Without characters that XML cannot hold, however they are written."""
    return "".join(each for each in text if each.isprintable() or each in "\t\n\r")
