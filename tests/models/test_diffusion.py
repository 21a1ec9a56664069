"""Pictures are those of the library's own pipelines, cues act as words do, and the loss is the papers'."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from aai.errors import BadConfig, BadItem
from aai.inject.text_encoder import Conditioning
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions
from tests.models.shrunk import DIM, DIM_2, POOLED_DIM, SIZE

QUICK = RenderOptions(steps=4, guidance=5.0)
PROMPTS = ["a photo of strong rain", "a fire city"]


@pytest.fixture(scope="module", params=["sd15", "sdxl"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture(scope="module")
def diffusion(folder) -> Diffusion:
    return load_diffusion(folder)


@pytest.fixture(scope="module")
def library(folder) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
    pipeline = DiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pictures_of(library, seeds, **settings) -> np.ndarray:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    return library(generator=generators, output_type="np", **settings).images * 255


def differ(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).max())


def same(first: np.ndarray, second: np.ndarray) -> bool:
    """Equal but where a last digit decides between two levels: 1e-3 of the range of values on average, no more."""
    return differ(first, second) <= 1 and float(np.abs(first.astype(float) - second).mean()) < 1e-3 * 255


@pytest.mark.parametrize("negatives", [None, ["dark city", "the style"]])
@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_pictures_are_those_of_the_librarys_own_call(diffusion, library, guidance, negatives):
    wanted = pictures_of(
        library, [1, 2], prompt=PROMPTS, negative_prompt=negatives, num_inference_steps=4, guidance_scale=guidance
    )
    found = diffusion.render(PROMPTS, [1, 2], None, negatives, RenderOptions(steps=4, guidance=guidance))
    assert found.shape == (2, SIZE, SIZE, 3) and found.dtype == np.uint8
    assert differ(wanted[0], wanted[1]) > 20
    assert np.abs(wanted - found).max() < 0.51


def test_prompts_are_encoded_as_by_the_library(diffusion, library):
    """Long ones too, with punctuation, capitals, figures and what is no letter at all."""
    prompts = ["", "A photo  of\nRAIN, in the city's forest!", "12 été (dark) – 雨 :-)", "strong rain " * 60]
    found = diffusion.encode_prompts(prompts)
    wanted = library.encode_prompt(prompts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    assert torch.allclose(found.context, wanted[0], atol=1e-5)
    if found.pooled is not None:
        assert torch.allclose(found.pooled, wanted[2], atol=1e-5)


def test_a_cue_made_of_words_is_those_words(diffusion):
    cue = diffusion.word_embeddings(["strong", "rain"])[None]
    spoken = diffusion.render(["a photo of * in the city"], [1], cue, options=QUICK)
    assert same(spoken, diffusion.render(["a photo of strong rain in the city"], [1], options=QUICK))
    assert differ(spoken, diffusion.render(["a photo of dark fire in the city"], [1], options=QUICK)) > 5


@pytest.mark.parametrize(
    "template", ["a city, {}, a forest", "a photo ({}) of", "{}!", "a city:{}'s", "{}, {}", "x{}-y"]
)
def test_a_cue_is_a_word_whatever_stands_beside_it(diffusion, template):
    cue = diffusion.word_embeddings(["rain"])[None]
    said = diffusion.encode_prompts([template.format(*["rain"] * 2) if template[0] != "x" else "x rain -y"])
    found = diffusion.encode_prompts([template.format("*", "*")], cue)
    assert torch.allclose(found.context, said.context, atol=1e-5)
    assert said.pooled is None or torch.allclose(found.pooled, said.pooled, atol=1e-5)


def test_each_prompt_gets_its_own_cue(diffusion):
    cues = torch.stack([diffusion.word_embeddings([word]) for word in ("fire", "rain")])
    together = diffusion.encode_prompts(["a * city", "a * forest"], cues)
    said = diffusion.encode_prompts(["a fire city", "a rain forest"])
    assert torch.allclose(together.context, said.context, atol=1e-5)
    assert not torch.allclose(together[[1, 0]].context, said.context, atol=1e-2)


def test_cues_stand_where_their_names_are(diffusion):
    fire, rain = (diffusion.word_embeddings([word]) for word in ("fire", "rain"))
    prompts = ["a *one city in the *two, *one", "a *b of *", "the * *"]
    cues = torch.stack([torch.cat(both) for both in ((fire, rain), (rain, fire), (fire, rain))])
    found = diffusion.encode_prompts(prompts, cues)
    said = diffusion.encode_prompts(["a fire city in the rain, fire", "a rain of fire", "the fire rain fire rain"])
    assert torch.allclose(found.context, said.context, atol=1e-5)
    assert said.pooled is None or torch.allclose(found.pooled, said.pooled, atol=1e-5)


def test_cues_that_do_not_share_the_rows_evenly_are_refused(diffusion):
    with pytest.raises(BadItem, match="'\\*a and \\*b': 3 rows are not 2 cues"):
        diffusion.encode_prompts(["*a and *b"], torch.zeros(1, 3, diffusion.cue_dim))


def test_a_strength_takes_away_its_share_of_what_a_cue_adds(diffusion):
    """By hand, for both cues of one prompt, beside a prompt that is left as it is."""
    words = diffusion.word_embeddings(["fire", "rain"])
    neutral, cues = diffusion.neutral[None], words.expand(2, -1, -1)
    said = diffusion.encode_prompts(["a *a photo of *b", "*a, *b"], cues)
    less = diffusion.encode_prompts(["a *a:0.4 photo of *b:-0.5", "*a, *b"], cues)
    without = diffusion.encode_prompts(
        ["a *a photo of *b"] * 2, torch.stack([torch.cat([neutral, words[1:]]), torch.cat([words[:1], neutral])])
    )
    for part in ("context", "pooled") if diffusion.is_xl else ("context",):
        whole, other = getattr(said, part), getattr(without, part)
        expected = whole[0] - 0.6 * (whole[0] - other[0]) - 1.5 * (whole[0] - other[1])
        assert torch.allclose(getattr(less, part)[0], expected, atol=1e-4)
        assert torch.allclose(getattr(less, part)[1], whole[1], atol=1e-5)
    whole_strength = diffusion.encode_prompts(["a *a:1 photo of *b:1.0", "*a, *b"], cues)
    assert torch.equal(whole_strength.context, said.context)


def test_at_strength_nought_a_cue_makes_no_difference(diffusion):
    none = [
        diffusion.encode_prompts(["a *:0 city"], diffusion.word_embeddings([word])[None]) for word in ("fire", "rain")
    ]
    assert torch.allclose(none[0].context, none[1].context, atol=1e-5)


def test_gradients_reach_every_part_of_a_cue_and_the_model_stays_frozen(diffusion):
    cue = diffusion.word_embeddings(["strong", "rain"])[None].requires_grad_()
    conditioning = diffusion.encode_prompts(["a * city"], cue)
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    diffusion.denoising_losses(latents, conditioning, torch.tensor([500]), noise).sum().backward()
    assert (cue.grad[0].abs() > 0).float().mean(dim=1).min() > 0.99
    parts = diffusion.pipeline.components.values()
    parameters = [p for part in parts if isinstance(part, torch.nn.Module) for p in part.parameters()]
    assert len(parameters) > 100 and not any(p.requires_grad or p.grad is not None for p in parameters)


def test_a_cue_row_has_a_part_for_each_text_encoder(diffusion):
    assert diffusion.cue_dim == (DIM + DIM_2 if diffusion.is_xl else DIM)
    assert diffusion.default_size == SIZE and diffusion.num_train_timesteps == 1000
    words = diffusion.word_embeddings(["rain", "strong rain"])
    tables = [encoder.embedding.weight for encoder in diffusion.text_encoders]
    ids = diffusion.pipeline.tokenizer(["strong", "rain"], add_special_tokens=False).input_ids
    first, second = (torch.cat([table[i] for table in tables], dim=1)[0] for i in ids)
    assert torch.allclose(words[0], second) and torch.allclose(words[1], (first + second) / 2)


def test_a_word_of_nothing_is_refused(diffusion):
    with pytest.raises(BadItem, match="word ' ': the text encoder finds nothing in it"):
        diffusion.word_embeddings(["rain", " "])


def test_a_placeholder_without_a_cue_is_refused(diffusion):
    for cues in (None, torch.zeros(1, 0, 0)):
        with pytest.raises(BadItem, match=r"'a \* city': no cue for its \*"):
            diffusion.encode_prompts(["a * city"], cues)
        plain = diffusion.encode_prompts(["a rain city"], cues)
        assert torch.equal(plain.context, diffusion.encode_prompts(["a rain city"]).context)
    with pytest.raises(BadItem, match=r"'dark \*': no cue"):
        diffusion.render(["a city"], [1], None, ["dark *"], QUICK)


def test_a_cue_that_would_be_cut_off_is_refused(diffusion):
    cue = torch.zeros(1, 2, diffusion.cue_dim)
    diffusion.encode_prompts(["rain " * 73 + "*"], cue)
    with pytest.raises(BadItem, match=r"\* is beyond the 77 tokens that the text encoder reads: shorten the prompt"):
        diffusion.encode_prompts(["rain " * 74 + "*"], cue)


def test_negative_prompts_and_guidance_matter(diffusion):
    def render(negatives: list[str] | None, guidance: float) -> np.ndarray:
        return diffusion.render(["a rain city"], [1], None, negatives, RenderOptions(steps=4, guidance=guidance))

    assert differ(render(["dark fire"], 5), render(None, 5)) > 5
    assert differ(render(None, 9), render(None, 5)) > 5
    assert np.array_equal(render(["dark fire"], 1), render(None, 0))
    assert np.array_equal(render([""], 5), render(None, 5))


def test_each_picture_has_its_own_negative_prompt(diffusion):
    together = diffusion.render(PROMPTS * 2, [1, 2, 3, 4], None, ["dark", "", "the style", "dark"], QUICK)
    for i, negative in enumerate(["dark", "", "the style", "dark"]):
        assert same(together[i], diffusion.render([(PROMPTS * 2)[i]], [i + 1], None, [negative], QUICK)[0])


def test_a_picture_has_the_size_that_is_asked_for(diffusion, library):
    found = diffusion.render(["a city"], [1], options=RenderOptions(steps=2, guidance=4, width=96, height=40))
    wanted = pictures_of(library, [1], prompt=["a city"], num_inference_steps=2, guidance_scale=4, width=96, height=40)
    assert found.shape == (1, 40, 96, 3)
    assert np.abs(wanted - found).max() < 0.51


def test_pictures_become_latents_and_back(diffusion, library):
    pictures = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        wanted = library.vae.encode(pictures).latent_dist.mean * library.vae.config.scaling_factor
    assert torch.allclose(diffusion.encode_images(pictures), wanted, atol=1e-5)
    assert diffusion.encode_images(pictures).shape == (3, 4, SIZE // 8, SIZE // 8)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_weighted_error_of_what_the_model_predicts(folder, tmp_path, prediction):
    """By hand: noise as in training, whatever scheduler the checkpoint samples with, and min-SNR weights."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = copy / "scheduler" / "scheduler_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"prediction_type": prediction}))
    diffusion = load_diffusion(copy)
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=rng)
    conditioning, timesteps = diffusion.encode_prompts(PROMPTS), torch.tensor([40, 800])
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    kept = (1 - betas).cumprod(0)[timesteps].view(2, 1, 1, 1)
    added = None
    if diffusion.is_xl:
        sizes = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]] * 2)
        added = {"text_embeds": conditioning.pooled, "time_ids": sizes}
    noisy = kept.sqrt() * latents + (1 - kept).sqrt() * noise
    with torch.no_grad():
        unet = diffusion.pipeline.unet
        predicted = unet(noisy, timesteps, conditioning.context, added_cond_kwargs=added).sample
        found = diffusion.denoising_losses(latents, conditioning, timesteps, noise)
    ratio = kept / (1 - kept)
    if prediction == "epsilon":
        error, scale = predicted - noise, ratio
    else:
        error, scale = predicted - (kept.sqrt() * noise - (1 - kept).sqrt() * latents), ratio + 1
    weight = (ratio.clamp(max=5) / scale).flatten() + 0.05
    assert torch.allclose(found, error.square().mean((1, 2, 3)) * weight, rtol=1e-4)


def test_rows_of_a_conditioning_can_be_picked():
    both = Conditioning(torch.arange(6.0).view(3, 2, 1), torch.arange(3.0).view(3, 1))
    assert both[1:].pooled.tolist() == [[1], [2]]
    assert both[[2, 2, 0]].context[:, 0, 0].tolist() == [4, 4, 0]
    assert Conditioning(both.context)[:1].pooled is None


def test_half_precision_renders_and_gives_a_loss_nearly_the_same(folder, diffusion):
    rough = load_diffusion(folder, dtype=torch.bfloat16)
    assert rough.dtype == torch.bfloat16
    assert rough.pipeline.vae.dtype == (torch.float32 if rough.is_xl else torch.bfloat16)
    quick = RenderOptions(steps=2, guidance=2)
    found, wanted = (each.render(PROMPTS, [1, 2], options=quick).astype(float) for each in (rough, diffusion))
    assert np.abs(found - wanted).mean() < 2
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    losses = [
        each.denoising_losses(latents, each.encode_prompts(PROMPTS), torch.tensor([100, 700]), noise).detach()
        for each in (rough, diffusion)
    ]
    assert losses[0].dtype == torch.float32
    assert torch.allclose(losses[0], losses[1], rtol=0.05)
    assert rough.encode_images(torch.zeros(1, 3, SIZE, SIZE)).dtype == torch.float32


def test_two_models_in_one_process_do_not_disturb_each_other(sd15_folder, sdxl_folder):
    small, large = load_diffusion(sd15_folder), load_diffusion(sdxl_folder)
    before = small.render(PROMPTS, [1, 2], options=QUICK)
    large.render(PROMPTS, [1, 2], options=RenderOptions(steps=2, scheduler="euler-a"))
    small.render(["a *"], [1], torch.zeros(1, 1, DIM), options=RenderOptions(steps=3, scheduler="unipc"))
    assert np.array_equal(small.render(PROMPTS, [1, 2], options=QUICK), before)


def test_a_pipeline_is_known_by_its_folder_and_contents(folder, diffusion):
    assert diffusion.name == folder.name and len(diffusion.revision) == 32
    assert load_diffusion(folder).revision == diffusion.revision


def test_what_is_no_pinned_whole_pipeline_is_refused(folder, tmp_path):
    with pytest.raises(BadConfig, match="give the revision as a commit of 40 hex digits"):
        load_diffusion("stable-diffusion-v1-5/stable-diffusion-v1-5")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadConfig, match="no DiffusionPipeline"):
        load_diffusion(tmp_path / "empty")
    other = shutil.copytree(folder, tmp_path / "other")
    index = other / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "FluxPipeline"}))
    with pytest.raises(BadConfig, match="FluxPipeline is not supported: name a pipeline of StableDiffusionPipeline"):
        load_diffusion(other)


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder"])
def test_pickled_weights_are_never_read(folder, tmp_path, part):
    pickled = shutil.copytree(folder, tmp_path / "pickled")
    (weights,) = (pickled / part).glob("*.safetensors")
    model = getattr(load_diffusion(folder).pipeline, part)
    torch.save(model.state_dict(), weights.with_name("pytorch_model.bin" if "text" in part else f"{weights.stem}.bin"))
    weights.unlink()
    with pytest.raises(BadConfig, match=r"no .*, with safetensors, can be loaded"):
        load_diffusion(pickled)


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_weights_that_are_missing_are_not_made_up(folder, tmp_path, part):
    deeper = shutil.copytree(folder, tmp_path / "deeper")
    config = deeper / part / "config.json"
    more = {"class_embed_type": "timestep"} if part == "unet" else {"num_hidden_layers": 4}
    config.write_text(json.dumps(json.loads(config.read_text()) | more))
    with pytest.raises(BadConfig, match=r"no whole \w+: \d+ parameters are missing"):
        load_diffusion(deeper)


def test_a_scheduler_missing_from_the_folder_is_named(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    shutil.rmtree(bare / "scheduler")
    with pytest.raises(BadConfig, match="no DiffusionPipeline"):
        load_diffusion(bare)


def test_weights_of_other_shapes_are_named(folder, tmp_path):
    deeper = shutil.copytree(folder, tmp_path / "deeper")
    config = deeper / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"layers_per_block": 2}))
    with pytest.raises(BadConfig, match="no UNet2DConditionModel.*expected shape"):
        load_diffusion(deeper)


def test_a_damaged_file_of_weights_is_named(folder, tmp_path):
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    (weights,) = (damaged / "vae").glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(BadConfig, match="no AutoencoderKL, with safetensors, can be loaded"):
        load_diffusion(damaged)


def test_the_pooled_prompt_is_read_at_the_prompts_end(sdxl_folder):
    diffusion = load_diffusion(sdxl_folder)
    pooled = diffusion.encode_prompts(["a rain city", "a fire city"]).pooled
    assert pooled.shape == (2, POOLED_DIM) and (pooled[0] - pooled[1]).abs().max() > 0.01
