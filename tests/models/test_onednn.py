"""What makes a processor quick changes no weight, no gradient and no number beyond rounding."""

import resource

import pytest
import torch
from torch import nn

from aai.models.onednn import OneDnnLinear, keep_memory, use_onednn

able = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN")


@able
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 7, 3)])
def test_a_layer_by_onednn_gives_what_it_gave_before(shape, bias):
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(3, 4, bias=bias)), torch.randn(shape)
    wanted, names = model(rows).detach(), list(model.state_dict())
    use_onednn(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(rows), wanted)
    assert type(model[0]) is OneDnnLinear and list(model.state_dict()) == names


@able
def test_gradients_pass_through_a_layer_by_onednn():
    torch.manual_seed(0)
    model, rows = nn.Sequential(nn.Linear(3, 4)).requires_grad_(False), torch.randn(2, 3, requires_grad=True)
    use_onednn(model)
    model(rows).sum().backward()
    torch.testing.assert_close(rows.grad, model[0].weight.sum(dim=0).expand(2, 3))


@able
def test_half_precision_keeps_its_own_product():
    model, rows = nn.Sequential(nn.Linear(3, 4)).bfloat16(), torch.randn(2, 3, dtype=torch.bfloat16)
    use_onednn(model)
    with torch.inference_mode():
        torch.testing.assert_close(model(rows), nn.functional.linear(rows, model[0].weight, model[0].bias))


@able
def test_autocast_is_obeyed():
    model = nn.Sequential(nn.Linear(3, 4))
    use_onednn(model)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert model(torch.randn(2, 3)).dtype == torch.bfloat16


def test_layers_of_another_class_stay_what_they_are():
    class Own(nn.Linear):
        pass

    model = nn.Sequential(Own(3, 4))
    use_onednn(model)
    assert type(model[0]) is Own


def test_freed_memory_is_used_again_without_new_pages():
    if not keep_memory():
        pytest.skip("this system's allocator has no such setting")

    def work() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(8):
            torch.ones(64 * 2**18)  # 64 MiB, far above the size from which memory goes back by default
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    work()
    assert work() < 8 * 64 * 2**20 // resource.getpagesize() / 10
