"""What runs on a GPU, on the pretended one and on a CPU: python -m tests.on_gpu.checks FOLDER CHECK ...

It is a process of its own, because PyTorch makes its threads for devices once. Prints the errors of checks as JSON.
"""

import json
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import LCMScheduler, TCDScheduler
from torch import nn

from aai.align.train_options import TrainAlignerOptions
from aai.align.training import Setup, train
from aai.cues import train_mapper
from aai.cues.fit import Fitter
from aai.cues.mapper import CueMapper
from aai.cues.options import FitOptions, TrainMapperOptions
from aai.cues.train_mapper import MapperTraining
from aai.edit.editor import Editor, EditRequest, EditResult, Photos
from aai.edit.options import EditOptions
from aai.edit.trajectories import InversionCache
from aai.models.clap import AudioEncoder
from aai.models.clip import ImageTextEncoder
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.image_reward import ImageReward
from aai.models.joint import load_joint
from aai.models.options import RenderOptions, Scheduler
from aai.tiny.world import WEIGHTS
from tests.align.pairs import write_pairs
from tests.align.towers import open_tower, write_tower_pairs
from tests.cues.clips import IMAGE_DIM, random_clips
from tests.models.joint_encoders import HAS_TIMM, write_gemma, write_pe_av
from tests.models.shrunk import DIM, SIZE, new_unet, write_sd15, write_sdxl
from tests.models.test_image_reward import OPTIONS, WORDS, random_weights
from tests.on_gpu.device import use_gpu

_CPU = torch.device("cpu")
_INTERVAL = (0.3, 5.4)
_SAMPLERS: tuple[Scheduler | None, ...] = (None, "ddim", "ddpm", "dpm++2m", "euler", "euler-a", "unipc")
_MAX_CHARACTERS = 1_000
_CLOSE = {"rtol": 1e-3, "atol": 1e-4}


class Case:
    """The models on both devices."""

    def __init__(self, folder: Path, gpu: torch.device) -> None:
        self.gpu = gpu
        writers = {"sd15": write_sd15, "sdxl": write_sdxl}
        self.models = {name: self._both(write(folder / name)) for name, write in writers.items()}
        torch.manual_seed(0)
        self.mapper = CueMapper(IMAGE_DIM, self.models["sd15"][0].cue_dim, hidden_dim=8)

    def _both(self, folder: Path) -> tuple[Diffusion, Diffusion]:
        return load_diffusion(folder), load_diffusion(folder, self.gpu)


def other_devices_are_refused(case: Case) -> None:
    there, here = torch.ones(2, device=case.gpu), torch.ones(2)
    assert there.device.type == "gpu" and (there + torch.tensor(1.0)).tolist() == [2, 2]
    assert there[torch.tensor([0])].tolist() == [1]
    wrong: list[Callable[[], object]] = [
        lambda: there + here,
        lambda: here + there,
        lambda: torch.cat([there, here]),
        lambda: torch.stack([there[0], here[0]]),
        lambda: there.view(1, 2) @ here,
        lambda: nn.functional.embedding(torch.tensor([0]), there.view(1, 2)),
        lambda: torch.randn(2, device=case.gpu, generator=torch.Generator()),
        lambda: there.numpy(),
    ]
    for number, work in enumerate(wrong):
        assert _fails(work), f"the GPU computes number {number}"


def _fails(work: Callable[[], object]) -> bool:
    try:
        work()
    except (RuntimeError, TypeError):
        return True
    return False


def pictures_are_those_of_a_cpu(case: Case) -> None:
    for name, samplers in (("sd15", _SAMPLERS), ("sdxl", _SAMPLERS[:1])):
        for sampler in samplers:
            _check_render(case.models[name], RenderOptions(steps=3, scheduler=sampler, guidance_interval=_INTERVAL))


def few_step_models_render(case: Case) -> None:
    for kind in (LCMScheduler, TCDScheduler):
        both = case.models["sd15"]
        before = [model.default_scheduler for model in both]
        for model in both:
            model.default_scheduler = kind.from_config(model.default_scheduler.config)
        _check_render(both, RenderOptions(steps=3, guidance=1.0))
        for model, scheduler in zip(both, before, strict=True):
            model.default_scheduler = scheduler


def a_unet_that_takes_the_guidance_scale_renders(case: Case) -> None:
    torch.manual_seed(2)
    unet = new_unet(DIM, time_cond_proj_dim=16).eval()
    both = case.models["sd15"]
    before = [model.pipeline.unet for model in both]
    for model in both:
        model.pipeline.unet = unet.to(model.device)
        model.pipeline.get_guidance_scale_embedding = _embedding_of_library
        _check_render((model, model), RenderOptions(steps=2, guidance=8.5))
    for model, own in zip(both, before, strict=True):
        model.pipeline.unet = own


def _embedding_of_library(weights: torch.Tensor, dim: int) -> torch.Tensor:
    return weights[:, None].expand(-1, dim)


def _check_render(both: tuple[Diffusion, Diffusion], options: RenderOptions) -> None:
    cues = torch.stack([both[0].word_embeddings([word]).cpu() for word in ("fire", "rain")])
    prompts, seeds = ["a photo of *", "a *:0.5 city"], [1, 2**40]
    expected, found = (model.render(prompts, seeds, cues, ["", "dark"], options).astype(int) for model in both)
    assert np.abs(expected - found).max() <= 2, options


def cues_are_those_of_a_cpu(case: Case) -> None:
    options = FitOptions(steps=2, eval_every=1, rows_per_step=2, eval_rows=2, max_rows=3, min_improvement=0)
    expected, found = (
        [cue.vector.cpu() for cue in Fitter(model, case.mapper, options, 0).fit(random_clips(2))]
        for model in case.models["sd15"]
    )
    torch.testing.assert_close(found, expected, **_CLOSE)


def mappers_are_those_of_a_cpu(case: Case) -> None:
    options = TrainMapperOptions(steps=3, batch_size=2, max_rows=1, templates=("a photo of *",))
    trained = []
    for model in case.models["sd15"]:
        start, state = model.word_embeddings(["rain", "fire"]).cpu(), None
        for _ in range(2):  # the second process goes on from the state
            training = MapperTraining(model, random_clips(3), start, options, 0, state, random_clips(2, seed=1))
            training.run(2)
            state = _state(training)
        trained.append(training.result().cpu().state_dict())
    torch.testing.assert_close(trained[1], trained[0], **_CLOSE)


def _state(training: MapperTraining) -> bytes:
    """The state; safetensors copies from a real GPU itself, but reads the addresses of tensors of this one."""
    save = train_mapper.save
    train_mapper.save = lambda tensors: save({name: tensor.cpu() for name, tensor in tensors.items()})
    try:
        return training.state()
    finally:
        train_mapper.save = save


def edits_are_those_of_a_cpu(case: Case) -> None:
    for both in case.models.values():
        _check_edit(both, EditOptions(reweight={"city": 1.5}, strength=0.7), _of_prompts)
    _check_edit(case.models["sd15"], EditOptions(mask="attention"), _of_prompts, size=2 * SIZE)


def _of_prompts(editor: Editor) -> EditResult:
    return editor.from_prompts(_request(editor))


def edits_of_photos_are_those_of_a_cpu(case: Case) -> None:
    down, across = np.mgrid[0 : 1 : SIZE * 1j, 0 : 1 : SIZE * 1j]
    pixels = (np.stack([down, across, down * across], axis=-1)[None] * 255).astype(np.uint8)
    photos = Photos(pixels, ["a"], [0, 0])
    masked = replace(photos, masks=np.tile(down > 0.5, (2, 1, 1)).astype(np.float32))
    for options in (EditOptions(), EditOptions(guide_from="source"), EditOptions(inversion="direct")):
        for own in (photos, masked):
            _check_edit(
                case.models["sd15"],
                options,
                lambda editor, own=own: editor.from_photos(_request(editor), own, InversionCache()),
            )


def _request(editor: Editor) -> EditRequest:
    cues = torch.stack([editor.diffusion.word_embeddings([word]).cpu() for word in ("fire", "rain")])
    return EditRequest(["a city"] * 2, ["a * city"] * 2, [1, 2], cues, ["", "dark"])


def _check_edit(
    both: tuple[Diffusion, Diffusion], options: EditOptions, edit: Callable[[Editor], EditResult], size: int = SIZE
) -> None:
    render = RenderOptions(steps=3, scheduler="ddim", guidance_interval=_INTERVAL, height=size, width=size)
    expected, found = (edit(Editor(model, render, options)) for model in both)
    assert np.abs(expected.pictures.astype(int) - found.pictures).mean() < 2, options
    assert expected.masks.shape == found.masks.shape


def vectors_are_those_of_a_cpu(case: Case) -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(256, size=(2, 40, 50, 3), dtype=np.uint8)
    waves = rng.normal(0, 0.1, (2, 16_000)).astype(np.float32)
    for dtype in (torch.float32, torch.bfloat16):
        seeing = [ImageTextEncoder(WEIGHTS / "clip", device=device, dtype=dtype) for device in (_CPU, case.gpu)]
        hearing = [AudioEncoder(WEIGHTS / "clap", device=device, dtype=dtype) for device in (_CPU, case.gpu)]
        _check_vectors([each.embed_images(pictures) for each in seeing])
        _check_vectors([each.embed_clips(list(waves), 16_000) for each in hearing])
        for both in (seeing, hearing):
            _check_vectors([each.embed_texts(["rain", "fire"]) for each in both])


def vectors_of_joint_encoders_are_those_of_a_cpu(case: Case) -> None:
    folder = Path(sys.argv[1])
    rng = np.random.default_rng(0)
    for write in (write_gemma, *([write_pe_av] if HAS_TIMM else [])):
        both = [load_joint(write(folder / write.__name__), device=device) for device in (_CPU, case.gpu)]
        picture, wave = rng.integers(256, size=(48, 48, 3), dtype=np.uint8), rng.normal(0, 0.1, 16_000)
        _check_vectors([each.images.embed_images([picture]) for each in both])
        _check_vectors([each.sounds.embed_clips([wave.astype(np.float32)], 16_000) for each in both])
        _check_vectors([each.sounds.embed_texts(["rain"]) for each in both])


def _check_vectors(both: Sequence[torch.Tensor]) -> None:
    assert all(vectors.device == _CPU for vectors in both)
    torch.testing.assert_close(both[1], both[0], rtol=0, atol=1e-3)


def rewards_are_those_of_a_cpu(case: Case) -> None:
    folder = Path(sys.argv[1]) / "reward"
    folder.mkdir()
    torch.save(random_weights(), folder / "ImageReward.pt")
    (folder / "med_config.json").write_text(json.dumps(OPTIONS))
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    both = [ImageReward(folder, device) for device in (_CPU, case.gpu)]
    picture = torch.from_numpy(both[0].prepare(np.full((40, 40, 3), 99, np.uint8)))[None]
    torch.testing.assert_close(*(each.score(picture, ["a photo of rain"]) for each in both))


def aligners_are_trained(case: Case) -> None:
    folder, common = Path(sys.argv[1]), {"batch": 16, "epochs": 1, "min_steps": 4, "hidden_dim": 8, "evaluations": 1}
    for is_tower in (False, True):
        own = folder / f"aligner {is_tower}"
        options = TrainAlignerOptions(tower_blocks=int(is_tower), checkpoint_steps=100, **common)
        pairs = write_tower_pairs(own, 80)[0] if is_tower else write_pairs(own, 80)
        tower = open_tower(own) if is_tower else None
        setup = Setup(options, "digest", own / "checkpoint.safetensors", case.gpu, tower=tower)
        assert train(pairs, setup, lambda *_: None).is_finished


CHECKS: dict[str, Callable[[Case], Any]] = {
    check.__name__: check
    for check in (
        other_devices_are_refused,
        pictures_are_those_of_a_cpu,
        few_step_models_render,
        a_unet_that_takes_the_guidance_scale_renders,
        cues_are_those_of_a_cpu,
        mappers_are_those_of_a_cpu,
        edits_are_those_of_a_cpu,
        edits_of_photos_are_those_of_a_cpu,
        vectors_are_those_of_a_cpu,
        vectors_of_joint_encoders_are_those_of_a_cpu,
        rewards_are_those_of_a_cpu,
        aligners_are_trained,
    )
}


def main() -> None:
    """Run checks."""
    errors = {}
    with use_gpu() as gpu:
        case = Case(Path(sys.argv[1]), gpu)
        for name in sys.argv[2:]:
            try:
                CHECKS[name](case)
            except Exception as error:  # noqa: BLE001 - the test says it
                errors[name] = f"{type(error).__name__}: {error}"[:_MAX_CHARACTERS]
                traceback.print_exc()
    sys.stdout.write(json.dumps(errors) + "\n")


if __name__ == "__main__":
    main()
