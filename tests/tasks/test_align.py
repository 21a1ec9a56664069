"""Audio vectors come to lie in the image encoder's space: by a trained projector, or by captions without training."""

import numpy as np
import pyarrow as pa
import pytest

from aai.align.captions import everyday_sounds
from aai.errors import BadConfig
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise
from aai.tiny.vocabulary import PHENOMENA
from aai.tiny.world import load_world
from tasks.align import CaptionAligner, TrainedAligner, blend
from tasks.runtime.arrow import to_array, to_lists
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run


@pytest.fixture(scope="module")
def embedded() -> pa.Table:
    """The audio vector of a clip of each phenomenon."""
    waves = [synthesise(name, 0.6, 800 + number) for number, name in enumerate(PHENOMENA)]
    vectors = load_world().audio.embed_clips(waves, SAMPLE_RATE_HZ).numpy()
    return pa.table({"clip_id": [f"{number:032x}" for number in range(len(waves))], "vector": to_lists(vectors)})


def run_on(tmp_path, **align) -> Run:
    captions = {"audio_prompt": "*", "image_prompt": "*"}  # the context of the tiny world is short
    return open_run(make_config(workspace=str(tmp_path), align={"method": "labels"} | captions | align))


def share_of_own_phenomenon(aligned: np.ndarray) -> float:
    captions = load_world().images.embed_texts([f"a photo of {name}" for name in PHENOMENA]).numpy()
    return np.mean((aligned @ captions.T).argmax(axis=1) == np.arange(len(PHENOMENA)))


def test_the_projector_brings_clips_to_their_phenomenon(embedded, tmp_path):
    outcome = TrainedAligner(run_on(tmp_path, method="trained").context())(embedded)
    aligned = to_array(outcome.rows["vector"])
    np.testing.assert_allclose(np.linalg.norm(aligned, axis=1), 1, rtol=1e-4)
    assert outcome.rows["clip_id"] == embedded["clip_id"] and share_of_own_phenomenon(aligned) >= 0.9


def test_captions_bring_clips_to_their_phenomenon(embedded, tmp_path):
    aligned = to_array(CaptionAligner(run_on(tmp_path, labels=list(PHENOMENA)).context())(embedded).rows["vector"])
    np.testing.assert_allclose(np.linalg.norm(aligned, axis=1), 1, rtol=1e-5)
    assert share_of_own_phenomenon(aligned) >= 0.9


def test_without_labels_the_shipped_list_is_used_and_is_part_of_the_recipe(embedded, tmp_path):
    assert len(everyday_sounds()) > 200 and len(set(everyday_sounds())) == len(everyday_sounds())
    aligned = to_array(CaptionAligner(run_on(tmp_path, labels=[]).context())(embedded).rows["vector"])
    assert aligned.shape == (len(PHENOMENA), 128)
    own, same, other = (
        run_on(tmp_path, **keys).recipe("aligned_vectors")
        for keys in ({"labels": []}, {"labels": everyday_sounds()}, {"labels": ["rain"]})
    )
    assert own == same != other


def test_a_caption_longer_than_an_encoders_context_is_an_error(tmp_path):
    """The tiny world spells words that it does not know."""
    for side in ("audio_prompt", "image_prompt"):
        run = run_on(tmp_path, labels=["rain"], **{side: "an unforgettable, extraordinary *"})
        with pytest.raises(BadConfig) as error:
            CaptionAligner(run.context())
        assert error.value.key == "align.labels" and "the caption 'an unforgettable" in error.value.sentence


def test_a_projector_depends_on_no_option_of_captions(tmp_path):
    recipes = {run_on(tmp_path, method="trained", temperature=at).recipe("aligned_vectors") for at in (0.1, 0.2)}
    assert len(recipes) == 1


def test_blending_weighs_the_best_captions_by_the_softmax_of_their_scores():
    vectors = np.eye(3, dtype=np.float32)
    blended = blend(np.array([[1.0, 0.0, -9.0]], np.float32), vectors, temperature=0.5, num=2)
    weights = np.array([1, np.exp(-2), 0])
    np.testing.assert_allclose(blended[0], weights / np.linalg.norm(weights), rtol=1e-5)


def test_blending_with_more_captions_than_there_are_takes_all():
    scores, vectors = np.array([[0.3, 0.2]], np.float32), np.eye(2, dtype=np.float32)
    np.testing.assert_allclose(blend(scores, vectors, 1.0, 9), blend(scores, vectors, 1.0, 2))
