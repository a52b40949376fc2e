"""A vector a frame: bserkit run --plugins-dir plugins --backbone short-time --pooler block-max."""

import numpy as np

from bserkit import Backbone, hookimpl

#: Samples in a frame, 25 ms, and from one to the next, 20 ms.
WINDOW, HOP = 400, 320


class ShortTime(Backbone):
    """The log power of equally wide bands in frames of 25 ms, one every 20 ms, as many networks of speech make them."""

    name = "short-time"
    reads = "waveform"
    batching = "equal"
    sample_rate: int = 16000
    bands: int = 40

    def weights_digest(self):
        """Say that there are no weights."""
        return "none"

    def feature_size(self):
        """Return how many bands there are."""
        return self.bands

    def frame_bounds(self, length):
        """Return (frame, 2): the samples where frames begin and end in a segment of so many."""
        starts = HOP * np.arange((length - WINDOW) // HOP + 1)
        return np.stack([starts, starts + WINDOW], axis=1)

    def load(self, device):
        """Return the network: (segment, time) -> (segment, frame, feature)."""
        import torch

        class LogPower(torch.nn.Module):
            """Fourier transforms, and the mean power in bands."""

            def __init__(self, bands):
                super().__init__()
                self.register_buffer("window", torch.hann_window(WINDOW))
                self.means = torch.nn.AdaptiveAvgPool1d(bands)

            def forward(self, waveform):
                power = torch.fft.rfft(waveform.unfold(1, WINDOW, HOP) * self.window).abs() ** 2
                return torch.log(self.means(power.flatten(0, 1)) + 1e-6).unflatten(0, power.shape[:2])

        return LogPower(self.bands).to(device).eval()


@hookimpl
def bserkit_backbones():
    """Add the backbone."""
    return [ShortTime]
