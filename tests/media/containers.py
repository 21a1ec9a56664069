"""Files of formats that ffmpeg's libraries read: tones, encoded by PyAV."""

import io
from typing import Any

import numpy as np


def encoded(  # noqa: PLR0913
    container: str,
    codec: str,
    rate_hz: int = 44_100,
    *,
    duration_s: float = 2.0,
    video: bool = False,
    num_streams: int = 1,
) -> bytes:
    """A stereo tone of 440 Hz; further sound streams have other tones, and a video is of grey frames."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        pictures = _add_pictures(output) if video else None
        sounds = [output.add_stream(codec, rate=rate_hz, layout="stereo") for _ in range(num_streams)]
        for sound in sounds:
            sound.bit_rate = 128_000
            sound.open()  # it knows the size of its frames then
        for number, sound in enumerate(sounds):
            frame = av.AudioFrame.from_ndarray(tone(440 + 220 * number, rate_hz, duration_s), "fltp", "stereo")
            frame.sample_rate, frame.pts = rate_hz, 0
            size = sound.codec_context.frame_size
            resampler = av.AudioResampler(sound.format, "stereo", rate_hz, frame_size=size)
            for part in [*resampler.resample(frame), *resampler.resample(None), None]:
                output.mux(sound.encode(part))
        if pictures:
            for number in range(round(10 * duration_s)):
                grey = np.full((48, 64, 3), number % 256, np.uint8)
                output.mux(pictures.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
            output.mux(pictures.encode(None))
    return file.getvalue()


def tone(frequency_hz: float, rate_hz: int, duration_s: float) -> np.ndarray:
    """Both channels of a tone."""
    time_s = np.arange(round(rate_hz * duration_s)) / rate_hz
    return np.stack([0.4 * np.sin(2 * np.pi * frequency_hz * time_s)] * 2).astype(np.float32)


def silent_video() -> bytes:
    """A video without a sound stream."""
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        pictures = _add_pictures(output)
        for part in [*[av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")] * 3, None]:
            output.mux(pictures.encode(part))
    return file.getvalue()


def _add_pictures(output: Any) -> Any:
    pictures = output.add_stream("mpeg4", rate=10)
    pictures.width, pictures.height, pictures.pix_fmt = 64, 48, "yuv420p"
    return pictures
