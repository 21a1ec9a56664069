"""oneDNN layers change no weight, no gradient, and no result beyond rounding; freed memory is reused."""

import resource
import subprocess
import sys

import pytest
import torch
from torch import nn

from aai.models.onednn import OneDnnLinear, keep_memory, use_onednn

able = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@able
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 7, 3)])
def test_a_onednn_layer_gives_the_same_result(shape, bias):
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(3, 4, bias=bias)), torch.randn(shape)
    expected, names = model(inputs).detach(), list(model.state_dict())
    use_onednn(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(inputs), expected)
    assert type(model[0]) is OneDnnLinear and list(model.state_dict()) == names


@able
def test_gradients_pass_through_a_onednn_layer():
    torch.manual_seed(0)
    model, inputs = nn.Sequential(nn.Linear(3, 4)).requires_grad_(False), torch.randn(2, 3, requires_grad=True)
    use_onednn(model)
    model(inputs).sum().backward()
    torch.testing.assert_close(inputs.grad, model[0].weight.sum(dim=0).expand(2, 3))


@able
def test_half_precision_is_left_to_pytorch():
    model, inputs = nn.Sequential(nn.Linear(3, 4)).bfloat16(), torch.randn(2, 3, dtype=torch.bfloat16)
    use_onednn(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(inputs), nn.functional.linear(inputs, model[0].weight, model[0].bias))


@able
def test_autocast_has_its_effect():
    model = nn.Sequential(nn.Linear(3, 4))
    use_onednn(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(2, 3)).dtype == torch.bfloat16


def test_subclasses_of_linear_are_unchanged():
    class Other(nn.Linear):
        pass

    model = nn.Sequential(Other(3, 4))
    use_onednn(model)
    assert type(model[0]) is Other


def test_freed_memory_is_reused_without_page_faults():
    """In a process of its own: what other tests have freed lies about in this one."""
    if not keep_memory():
        pytest.skip("this C library has no such setting")
    ran = subprocess.run([sys.executable, "-c", _WORK], capture_output=True, text=True, check=True)
    num_faults = int(ran.stdout)
    assert num_faults < 8 * 64 * 2**20 // resource.getpagesize() / 4  # the system may take a block away


_WORK = """
import resource, torch
from aai.models.onednn import keep_memory

def work():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(64 * 2**18)  # 64 MiB, far above the default mmap threshold
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_memory()
work()
print(work())
"""
