"""A compiled UNet gives the same losses and cues, and is compiled only when that pays."""

import logging
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from aai.cues.denoising import losses_and_gradient, losses_of
from aai.cues.fit import Fitter, FreeCue
from aai.cues.options import FitOptions
from aai.errors import Transient
from aai.models import speed
from aai.models.diffusion import load_diffusion
from aai.models.onednn import OneDnnLinear
from aai.models.row_memory import try_passes
from aai.models.speed import UnetSpeed, prepare_unet
from tests.cues.clips import random_clips
from tests.cues.test_denoising import cues_and_rows

CPU = torch.device("cpu")


@pytest.fixture
def model(sd15_folder):
    diffusion = load_diffusion(sd15_folder)
    for layer in diffusion.pipeline.unet.modules():
        if type(layer) is OneDnnLinear:
            layer.__class__ = torch.nn.Linear  # torch cannot trace the suite's type checks of our own layers
    return diffusion


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # torch's own, while it traces
def test_compiled_blocks_give_the_same_losses_at_any_batch_size_and_can_be_undone(model, graphs):
    cues, rows = cues_and_rows(model)
    expected = losses_and_gradient(model, cues, rows, 100)
    assert prepare_unet(model.pipeline.unet, CPU, compile=True)
    nums = []
    for max_rows in (15, 7, 2, 1):
        found = losses_and_gradient(model, cues, rows, max_rows)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
        nums.append(len(graphs))
    assert nums[0] > 0 and set(nums) == {nums[0]}, "another batch size makes no other graph"
    torch.testing.assert_close(losses_of(model, cues, rows, 15), expected[0])
    num_graphs = len(graphs)
    assert not prepare_unet(model.pipeline.unet, CPU, compile=False)
    torch.testing.assert_close(losses_and_gradient(model, cues, rows, 3), expected, rtol=1e-4, atol=1e-6)
    assert len(graphs) == num_graphs


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning", "ignore::DeprecationWarning:torch")
def test_compiled_or_not_a_clip_gets_the_same_cue(model, monkeypatch):
    """As far as the graphs of forward and backward pass: generating code for a CPU takes a quarter of an hour."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    network, clips = FreeCue(model.word_embeddings(["rain"])), random_clips(2)
    options = FitOptions(steps=3, eval_every=3, rows_per_step=2, eval_rows=4, learning_rate=1e-3, min_improvement=0)
    plain = next(Fitter(model, network, options, 0).fit(clips))
    assert prepare_unet(model.pipeline.unet, CPU, compile=True, trial=partial(try_passes, model, 1, 2))
    compiled = next(Fitter(model, network, options, 0).fit(clips))
    torch.testing.assert_close(compiled.vector, plain.vector, rtol=1e-4, atol=1e-5)
    assert compiled.losses == pytest.approx(plain.losses, rel=1e-4)
    torch._dynamo.reset()


def test_a_compiler_that_fails_is_a_warning_and_the_model_runs_as_it_is(model, monkeypatch, caplog):
    def fail(graph, inputs):
        raise FileNotFoundError("there is no C++ compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=fail))
    trial = partial(try_passes, model, 2, 2)
    with caplog.at_level(logging.WARNING):
        assert not prepare_unet(model.pipeline.unet, CPU, compile=True, trial=trial)
    [record] = caplog.records
    assert "could not be compiled" in record.message and "no C++ compiler" in record.message
    trial()
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("device", "compile", "seconds", "compiled_before"),
    [
        ("cuda", "auto", 50, [False, False, False, True]),
        ("cuda", True, 50, [True]),
        ("cuda", False, 500, []),
        ("cpu", "auto", 500, []),
        ("cpu", True, 1, [True]),
    ],
)
def test_a_model_is_compiled_once_when_that_pays(monkeypatch, device, compile, seconds, compiled_before):
    prepared, now = [], [0.0]
    monkeypatch.setattr(speed, "prepare_unet", lambda *args: prepared.append(int(now[0] / seconds)))
    monkeypatch.setattr(speed.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    unet = UnetSpeed(torch.nn.Identity(), torch.device(device), compile)
    for _ in range(6):
        with unet.work(lambda: None):
            now[0] += seconds
    assert prepared == [number for number, due in enumerate(compiled_before) if due]


@pytest.mark.parametrize(("capability", "is_first"), [((9, 0), True), ((8, 0), False)])
def test_cudnn_attention_comes_first_on_hopper_alone(monkeypatch, capability, is_first):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    before = torch._C._get_sdp_priority_order()
    with speed.fastest_attention(torch.device("cuda")):
        order = torch._C._get_sdp_priority_order()
        assert (order != before) == is_first
        assert not is_first or order[0] == int(torch.nn.attention.SDPBackend.CUDNN_ATTENTION)
    assert torch._C._get_sdp_priority_order() == before


def test_a_model_is_compiled_again_without_an_attention_that_fails(monkeypatch):
    monkeypatch.setattr(speed, "_cudnn_faults", [])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    first = int(torch.nn.attention.SDPBackend.CUDNN_ATTENTION)
    orders = []

    def trial():
        orders.append(torch._C._get_sdp_priority_order()[0])
        if orders[-1] == first:
            raise RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.")

    unet = UnetSpeed(torch.nn.Identity(), torch.device("cuda"), compile=True)
    with pytest.raises(Transient), unet.work(trial):
        raise AssertionError("the slice is not begun")
    with unet.work(trial), unet.work(trial):
        pass
    assert len(orders) == 2 and orders[0] == first != orders[1]


def test_where_cudnn_fails_a_process_does_without_it(monkeypatch):
    entered = []
    monkeypatch.setattr(speed, "_cudnn_faults", [])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(speed, "sdpa_kernel", lambda *_, **__: nullcontext(entered.append(True)))
    device = torch.device("cuda")
    with pytest.raises(RuntimeError, match="out of memory"), speed.fastest_attention(device):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(Transient, match="No execution plans"), speed.fastest_attention(device):
        raise RuntimeError("cuDNN Frontend error: [cudnn_frontend] Error: No execution plans support the graph.\n...")
    with speed.fastest_attention(device):
        assert len(entered) == 2
