"""Options of ingest."""

from aai.media.audio import AudioOptions
from aai.media.images import ImageOptions
from aai.options import Options


class IngestOptions(Options):
    """Ingest: decoding, limits and windows. Files beyond a limit are rejected with the reason."""

    audio: AudioOptions = AudioOptions()
    """Recordings: limits, and the windows that become clips."""

    images: ImageOptions = ImageOptions()
    """Images: limits and conversions."""
