"""Alignment without training: what is heard is named, and the names are seen."""

import numpy as np
import pyarrow as pa
import pytest

from aai.align.captions import everyday_sounds
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.tiny.vocabulary import PHENOMENA
from aai.tiny.world import load_world
from tasks.align import LabelAligner
from tasks.runtime.arrow import to_array, to_lists
from tasks.runtime.config import make_config
from tasks.runtime.run import open_run


@pytest.fixture(scope="module")
def heard() -> pa.Table:
    waves = [synthesise(name, 0.6, 800 + number) for number, name in enumerate(PHENOMENA)]
    vectors = load_world().audio.embed_clips(waves, SAMPLE_RATE_HZ).numpy()
    return pa.table({"clip_id": [f"{number:032x}" for number in range(len(waves))], "vector": to_lists(vectors)})


def config_of(**align):
    return make_config(align={"method": "labels", "audio_prompt": "*"} | align)


def test_clips_come_to_lie_where_their_phenomenon_is_seen(heard):
    aligned = to_array(LabelAligner(config_of(labels=list(PHENOMENA)))(heard).rows["vector"])
    np.testing.assert_allclose(np.linalg.norm(aligned, axis=1), 1, rtol=1e-5)
    seen = load_world().images.embed_texts([f"a photo of {name}" for name in PHENOMENA]).numpy()
    assert np.mean((aligned @ seen.T).argmax(axis=1) == np.arange(len(PHENOMENA))) >= 0.9


def test_without_labels_the_shipped_list_is_heard_for_and_is_part_of_the_recipe(heard, tmp_path):
    assert len(everyday_sounds()) > 200 and len(set(everyday_sounds())) == len(everyday_sounds())
    aligned = to_array(LabelAligner(config_of())(heard).rows["vector"])
    assert aligned.shape == (len(PHENOMENA), 128)
    own, same = (open_run(config_of(**keys)).recipe("aligned_vectors") for keys in ({}, {"labels": everyday_sounds()}))
    other = open_run(config_of(labels=["rain"])).recipe("aligned_vectors")
    assert own == same != other
