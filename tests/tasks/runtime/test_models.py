"""Workers open the models of a configuration; what is missing is named with its key."""

import pytest
import torch

from aai.cues.mapper import CueMapper
from aai.errors import BadConfig
from tasks.fit import FittingWorker
from tasks.runtime.loaded import LoadedModels
from tasks.runtime.models import initial_cue, open_diffusion, open_image_text, open_mapper
from tasks.stages import make_config, open_run
from tasks.train_mapper import MapperTrainer


def context_of(tmp_path, **keys):
    return open_run(make_config(workspace=str(tmp_path), **keys)).context()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_text_to_image_model_computes_in_the_configured_type(tmp_path, dtype):
    diffusion = open_diffusion(make_config(models={"dtype": dtype}))
    assert diffusion.dtype == getattr(torch, dtype)


def test_a_model_stays_loaded_until_a_worker_needs_another(tmp_path):
    config, models, opened = make_config(), LoadedModels(), []
    for open_model in (open_diffusion, open_diffusion, open_image_text):
        with models.for_worker():
            opened.append(open_model(config))
    assert opened[0] is opened[1]
    assert list(models._models.values()) == [opened[2]]


def test_a_model_that_is_nowhere_cannot_be_opened(tmp_path):
    with pytest.raises(BadConfig):
        open_diffusion(make_config(models={"diffusion": str(tmp_path / "nowhere")}))


def test_the_shipped_mapper_is_that_of_the_profile(tmp_path):
    context = context_of(tmp_path)
    shipped = CueMapper.load(context.config.models.mapper)
    vector = torch.randn(1, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(open_mapper(context)(vector), shipped(vector))


def test_a_mapper_that_is_not_trained_yet_comes_with_the_remedy(tmp_path):
    with pytest.raises(BadConfig, match="run `aai build`") as error:
        open_mapper(context_of(tmp_path, train_mapper={"method": "learned"}))
    assert error.value.key == "train_mapper"


def test_the_initial_cue_is_the_mean_embedding_of_the_start_words(tmp_path):
    context = context_of(tmp_path, train_mapper={"start_words": ["rain", "fire"]})
    diffusion = open_diffusion(context.config)
    cue = initial_cue(context, diffusion, 3)
    expected = diffusion.word_embeddings(["rain", "fire"]).mean(0)
    assert cue.shape == (3, 128) and all(torch.equal(row, expected) for row in cue)


@pytest.mark.parametrize(
    ("key", "worker", "method"),
    [
        ("fit", FittingWorker, "adapter"),
        ("fit", FittingWorker, "inversion"),
        ("train_mapper", MapperTrainer, "learned"),
    ],
)
def test_a_template_longer_than_the_context_stops_the_build_before_any_work(tmp_path, key, worker, method):
    templates = {"method": method, "templates": ["a photo of *", "a photo of * " + "city " * 19]}
    with pytest.raises(BadConfig) as error:
        worker(context_of(tmp_path, **{key: templates}))
    assert error.value.key == f"{key}.templates" and "has 24 tokens" in error.value.sentence
