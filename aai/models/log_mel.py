"""Log-mel spectrograms of CLAP, in torch on the model's device.

`transformers` computes them in numpy, frame by frame, in one thread: an H200 was idle for 98 % of the time.
"""

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from transformers import ClapFeatureExtractor

_FLOOR = 1e-10  # of the power, as in `transformers.audio_utils.spectrogram`
_FUSION = "fusion"
_NUM_PARTS = 4
"""Groups of mel filters, each multiplied with the frequency bins that it needs: a quarter of the work."""


class LogMel(nn.Module):
    """The features of `ClapFeatureExtractor` for waves of its input length, to float32 tolerance.

    A Hann window, squared magnitudes, the extractor's mel filters and decibels; frames are centred, and the ends
    reflected. With feature fusion a wave that is not longer than the input has the same spectrogram four times.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, extractor: ClapFeatureExtractor) -> None:
        super().__init__()
        self._size, self._hop = int(extractor.fft_window_size), int(extractor.hop_length)
        is_fused = extractor.truncation == _FUSION
        self._num_channels = 4 if is_fused else 1
        filters = torch.as_tensor(extractor.mel_filters if is_fused else extractor.mel_filters_slaney).float()
        self._bounds = [_bounds(part) for part in filters.chunk(_NUM_PARTS, dim=1)]
        self.register_buffer("window", torch.hann_window(self._size, dtype=torch.float64).float())
        # Twice, because real and imaginary parts stand beside one another, and power is the sum of their squares.
        self.register_buffer("filters", filters.repeat_interleave(2, dim=0))

    def forward(self, waves: Float32[Tensor, "clips samples"]) -> Float32[Tensor, "clips channels frames mels"]:
        """Features in decibels, on the waves' device."""
        num_frames = 1 + waves.shape[1] // self._hop
        mels = waves.new_empty(len(waves), num_frames, self.filters.shape[1])
        for wave, own in zip(waves, mels, strict=True):
            self._fill(own, wave)
        decibels = mels.clamp_min_(_FLOOR).log10_().mul_(10)
        return decibels.unsqueeze(1).expand(-1, self._num_channels, -1, -1)

    def _fill(self, mels: Tensor, wave: Tensor) -> None:
        """Write the power in each mel band of a wave's frames; one wave at a time stays in the processor's cache."""
        spectra = torch.fft.rfft(self._frames(wave, len(mels)))
        num_bins = max(high for _, high in self._bounds)  # above the filters' highest frequency all are 0
        squares = torch.view_as_real(spectra).flatten(1)[:, : 2 * num_bins].square_()
        parts = zip(self._bounds, self.filters.chunk(_NUM_PARTS, dim=1), strict=True)
        bands = [squares[:, 2 * low : 2 * high] @ part[2 * low : 2 * high] for (low, high), part in parts]
        torch.cat(bands, dim=1, out=mels)

    def _frames(self, wave: Tensor, num_frames: int) -> Tensor:
        """Windowed frames; only those across an end of the wave see a copy of it with the end reflected."""
        half = self._size // 2
        num_before = -(-half // self._hop)
        inner = wave[num_before * self._hop - half :].unfold(0, self._size, self._hop)
        num_until = num_before + len(inner)
        before = torch.cat([wave[1 : half + 1].flip(0), wave[: self._size]])
        after = torch.cat([wave[num_until * self._hop - half :], wave[-half - 1 : -1].flip(0)])
        frames = wave.new_empty(num_frames, self._size)
        torch.mul(before.unfold(0, self._size, self._hop)[:num_before], self.window, out=frames[:num_before])
        torch.mul(inner, self.window, out=frames[num_before:num_until])
        torch.mul(after.unfold(0, self._size, self._hop), self.window, out=frames[num_until:])
        return frames


def _bounds(filters: Tensor) -> tuple[int, int]:
    """The first frequency bin that some filters let through, and the one after the last."""
    bins = filters.any(dim=1).nonzero()
    return int(bins.min()), int(bins.max()) + 1
