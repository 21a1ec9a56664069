"""Log-mel spectrograms of CLAP, in torch on the model's device.

`transformers` computes them in numpy, frame by frame, in one thread: an H200 was idle for 98 % of the time.
"""

import torch
from jaxtyping import Float32
from torch import Tensor, nn
from transformers import ClapFeatureExtractor

_FLOOR = 1e-10  # of the power, as in `transformers.audio_utils.spectrogram`
_FUSION = "fusion"


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
        filters = torch.as_tensor(extractor.mel_filters if is_fused else extractor.mel_filters_slaney)
        num_bins = int(filters.any(dim=1).nonzero().max()) + 1  # above the filters' highest frequency all are 0
        self.register_buffer("window", torch.hann_window(self._size, dtype=torch.float64).float())
        # Twice, because real and imaginary parts stand beside one another, and power is the sum of their squares.
        self.register_buffer("filters", filters[:num_bins].float().repeat_interleave(2, dim=0))

    def forward(self, waves: Float32[Tensor, "clips samples"]) -> Float32[Tensor, "clips channels frames mels"]:
        """Features in decibels, on the waves' device."""
        mels = torch.stack([self._mels(wave) for wave in waves])
        decibels = mels.clamp_min_(_FLOOR).log10_().mul_(10)
        return decibels.unsqueeze(1).expand(-1, self._num_channels, -1, -1)

    def _mels(self, wave: Tensor) -> Tensor:
        """The power in each mel band of a wave's frames; one wave at a time stays in the processor's cache."""
        half = self._size // 2
        padded = torch.cat([wave[1 : half + 1].flip(0), wave, wave[-half - 1 : -1].flip(0)])
        spectra = torch.fft.rfft(padded.unfold(0, self._size, self._hop) * self.window)
        parts = torch.view_as_real(spectra).flatten(1)[:, : len(self.filters)]
        return parts.square_() @ self.filters
