"""Pictures of a compiled model are those of the model as it is, whatever the batch, and its decoder compiles, too."""

import numpy as np
import pytest
import torch

from aai.edit.editor import Editor, EditRequest
from aai.edit.options import EditOptions
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.onednn import OneDnnLinear
from aai.models.options import RenderOptions
from aai.models.sampling import try_step

OPTIONS = RenderOptions(steps=3, guidance=4, guidance_interval=(0.1, 6))
EDITS = EditRequest(["a city"] * 2, ["a fire city", "a rain city"], [1, 2], None, ["", ""])


def pictures(diffusion: Diffusion, num: int) -> np.ndarray:
    return diffusion.render(["a fire city"] * num, list(range(num)), options=OPTIONS).astype(float)


@pytest.mark.slow
def test_compiled_pictures_are_the_same_and_edits_run_as_they_are(sd15_folder, graphs):
    diffusion = load_diffusion(sd15_folder)
    for layer in diffusion.pipeline.unet.modules():
        if type(layer) is OneDnnLinear:
            layer.__class__ = torch.nn.Linear  # torch cannot trace the suite's type checks of our own layers
    expected = {num: pictures(diffusion, num) for num in (1, 3)}
    editor = Editor(diffusion, OPTIONS, EditOptions())
    edited = editor.from_prompts(EDITS).pictures.astype(float)
    speed, decoder = diffusion.speed, diffusion.codec.speed
    speed.compile = decoder.compile = True
    with decoder.work(lambda: diffusion.decode(try_step(diffusion, OPTIONS))):
        num_decoder = len(graphs)
        with speed.work(lambda: try_step(diffusion, OPTIONS)):
            found = {num: pictures(diffusion, num) for num in (3, 1)}
    assert 0 < num_decoder < len(graphs)
    assert all(np.abs(found[num] - expected[num]).max() <= 1 for num in expected)
    num_graphs = len(graphs)
    with speed.eager(), decoder.eager():
        assert np.abs(editor.from_prompts(EDITS).pictures - edited).max() <= 1
        assert pictures(diffusion, 2).shape == (2, 64, 64, 3)
    assert len(graphs) == num_graphs
