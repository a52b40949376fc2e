"""Channel transforms: Left, Right, Mid = L + R, Side = L - R (paper, section I)."""

import torch

from bserkit.plugins.builtin.channels import LeftRight, MidSide, Mono


def test_left_and_right_are_the_rows_as_recorded():
    stereo = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    assert torch.equal(LeftRight().transform(stereo), stereo)


def test_mid_is_the_sum_and_side_is_left_minus_right():
    made = MidSide().transform(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    assert torch.equal(made, torch.tensor([[4.0, 7.0], [-2.0, -3.0]]))


def test_equal_channels_have_silent_side_and_twice_mid():
    wave = torch.linspace(-1, 1, 7)
    mid, side = MidSide().transform(torch.stack([wave, wave]))
    assert torch.equal(mid, 2 * wave)
    assert not side.any()


def test_mono_is_the_mean_and_keeps_equal_channels():
    wave = torch.linspace(-1, 1, 7)
    assert torch.equal(Mono().transform(torch.stack([wave, wave])), wave.unsqueeze(0))
    assert torch.equal(Mono().transform(torch.stack([wave, 3 * wave])), 2 * wave.unsqueeze(0))
