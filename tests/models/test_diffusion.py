"""Pictures equal those of diffusers' pipelines, cues act as words, and the loss is that of the papers."""

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

from aai.errors import BadConfig, BadItem
from aai.models.diffusion import Diffusion, load_diffusion
from aai.models.options import RenderOptions
from aai.models.revisions import resolve_revision
from aai.noise import generator_of
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
    """Equal up to rounding to integer levels, and within 1e-3 of the value range on average."""
    return differ(first, second) <= 1 and float(np.abs(first.astype(float) - second).mean()) < 1e-3 * 255


def test_seeds_that_are_equal_modulo_2_to_the_32_give_different_pictures(diffusion, library):
    """`generator_of` gives plain diffusers the noise of a large seed."""
    seed = 2**32 + 1
    small, large = diffusion.render(PROMPTS[:1] * 2, [1, seed], options=QUICK)
    assert differ(small, large) > 20
    settings = {"num_inference_steps": QUICK.steps, "guidance_scale": QUICK.guidance, "output_type": "np"}
    assert same(large, library(PROMPTS[0], generator=generator_of(seed), **settings).images[0] * 255)


@pytest.mark.parametrize("negatives", [None, ["dark city", "the style"]])
@pytest.mark.parametrize("guidance", [5.0, 1.0])
def test_pictures_equal_the_librarys(diffusion, library, guidance, negatives):
    expected = pictures_of(
        library, [1, 2], prompt=PROMPTS, negative_prompt=negatives, num_inference_steps=4, guidance_scale=guidance
    )
    actual = diffusion.render(PROMPTS, [1, 2], None, negatives, RenderOptions(steps=4, guidance=guidance))
    assert actual.shape == (2, SIZE, SIZE, 3) and actual.dtype == np.uint8
    assert differ(expected[0], expected[1]) > 20
    assert np.abs(expected - actual).max() < 0.51


def test_prompt_embeddings_equal_the_librarys(diffusion, library):
    """Also of punctuation, capitals, digits and symbols."""
    prompts = ["", "A photo  of\nRAIN, in the city's forest!", "12 été (dark) – 雨 :-)", "strong rain " * 30]
    actual = diffusion.encode_prompts(prompts)
    expected = library.encode_prompt(prompts, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
    assert torch.allclose(actual.context, expected[0], atol=1e-5)
    if actual.pooled is not None:
        assert torch.allclose(actual.pooled, expected[2], atol=1e-5)


def test_a_cue_of_word_embeddings_acts_as_these_words(diffusion):
    cue = diffusion.word_embeddings(["strong", "rain"])[None]
    with_cue = diffusion.render(["a photo of * in the city"], [1], cue, options=QUICK)
    assert same(with_cue, diffusion.render(["a photo of strong rain in the city"], [1], options=QUICK))
    assert differ(with_cue, diffusion.render(["a photo of dark fire in the city"], [1], options=QUICK)) > 5


@pytest.mark.parametrize(
    "template", ["a city, {}, a forest", "a photo ({}) of", "{}!", "a city:{}'s", "{}, {}", "x{}-y"]
)
def test_a_cue_acts_as_a_word_beside_any_text(diffusion, template):
    cue = diffusion.word_embeddings(["rain"])[None]
    in_words = diffusion.encode_prompts([template.format(*["rain"] * 2) if template[0] != "x" else "x rain -y"])
    actual = diffusion.encode_prompts([template.format("*", "*")], cue)
    assert torch.allclose(actual.context, in_words.context, atol=1e-5)
    assert in_words.pooled is None or torch.allclose(actual.pooled, in_words.pooled, atol=1e-5)


def test_each_prompt_has_its_own_cue(diffusion):
    cues = torch.stack([diffusion.word_embeddings([word]) for word in ("fire", "rain")])
    together = diffusion.encode_prompts(["a * city", "a * forest"], cues)
    in_words = diffusion.encode_prompts(["a fire city", "a rain forest"])
    assert torch.allclose(together.context, in_words.context, atol=1e-5)
    assert not torch.allclose(together[[1, 0]].context, in_words.context, atol=1e-2)


def test_cues_are_injected_at_their_names(diffusion):
    fire, rain = (diffusion.word_embeddings([word]) for word in ("fire", "rain"))
    prompts = ["a *one city in the *two, *one", "a *b of *", "the * *"]
    cues = torch.stack([torch.cat(both) for both in ((fire, rain), (rain, fire), (fire, rain))])
    actual = diffusion.encode_prompts(prompts, cues)
    in_words = diffusion.encode_prompts(["a fire city in the rain, fire", "a rain of fire", "the fire rain fire rain"])
    assert torch.allclose(actual.context, in_words.context, atol=1e-5)
    assert in_words.pooled is None or torch.allclose(actual.pooled, in_words.pooled, atol=1e-5)


def test_a_strength_scales_a_cues_effect_on_the_embeddings(diffusion):
    """Computed by hand for both cues of one prompt, next to a prompt without strengths."""
    words = diffusion.word_embeddings(["fire", "rain"])
    neutral, cues = diffusion.mean_embedding[None], words.expand(2, -1, -1)
    in_words = diffusion.encode_prompts(["a *a photo of *b", "*a, *b"], cues)
    less = diffusion.encode_prompts(["a *a:0.4 photo of *b:-0.5", "*a, *b"], cues)
    without = diffusion.encode_prompts(
        ["a *a photo of *b"] * 2, torch.stack([torch.cat([neutral, words[1:]]), torch.cat([words[:1], neutral])])
    )
    for part in ("context", "pooled") if diffusion.is_xl else ("context",):
        whole, other = getattr(in_words, part), getattr(without, part)
        expected = whole[0] - 0.6 * (whole[0] - other[0]) - 1.5 * (whole[0] - other[1])
        assert torch.allclose(getattr(less, part)[0], expected, atol=1e-4)
        assert torch.allclose(getattr(less, part)[1], whole[1], atol=1e-5)
    whole_strength = diffusion.encode_prompts(["a *a:1 photo of *b:1.0", "*a, *b"], cues)
    assert torch.equal(whole_strength.context, in_words.context)


def test_a_cue_of_strength_0_has_no_effect(diffusion):
    unconditional = [
        diffusion.encode_prompts(["a *:0 city"], diffusion.word_embeddings([word])[None]) for word in ("fire", "rain")
    ]
    assert torch.allclose(unconditional[0].context, unconditional[1].context, atol=1e-5)


def test_gradients_reach_every_element_of_a_cue_and_no_parameter(diffusion):
    cue = diffusion.word_embeddings(["strong", "rain"])[None].requires_grad_()
    conditioning = diffusion.encode_prompts(["a * city"], cue)
    latents, noise = torch.randn(2, 1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    diffusion.denoising_losses(latents, conditioning, torch.tensor([500]), noise).sum().backward()
    assert (cue.grad[0].abs() > 0).float().mean(dim=1).min() > 0.99
    parts = diffusion.pipeline.components.values()
    parameters = [p for part in parts if isinstance(part, torch.nn.Module) for p in part.parameters()]
    assert len(parameters) > 100 and not any(p.requires_grad or p.grad is not None for p in parameters)


def test_a_cue_vector_has_a_part_for_each_text_encoder(diffusion):
    assert diffusion.cue_dim == (DIM + DIM_2 if diffusion.is_xl else DIM)
    assert diffusion.default_size == SIZE and diffusion.num_train_timesteps == 1000
    words = diffusion.word_embeddings(["rain", "strong rain"])
    tables = [encoder.embedding.weight for encoder in diffusion.text_encoders]
    ids = diffusion.pipeline.tokenizer(["strong", "rain"], add_special_tokens=False).input_ids
    first, second = (torch.cat([table[i] for table in tables], dim=1)[0] for i in ids)
    assert torch.allclose(words[0], second) and torch.allclose(words[1], (first + second) / 2)


def test_a_placeholder_without_a_cue_is_refused(diffusion):
    for cues in (None, torch.zeros(1, 0, 0)):
        with pytest.raises(BadItem, match=r"'a \* city': no cue for \*"):
            diffusion.encode_prompts(["a * city"], cues)
        plain = diffusion.encode_prompts(["a rain city"], cues)
        assert torch.equal(plain.context, diffusion.encode_prompts(["a rain city"]).context)
    with pytest.raises(BadItem, match=r"'dark \*': no cue"):
        diffusion.render(["a city"], [1], None, ["dark *"], QUICK)


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


def test_a_picture_has_the_requested_size(diffusion, library):
    actual = diffusion.render(["a city"], [1], options=RenderOptions(steps=2, guidance=4, width=96, height=40))
    expected = pictures_of(
        library, [1], prompt=["a city"], num_inference_steps=2, guidance_scale=4, width=96, height=40
    )
    assert actual.shape == (1, 40, 96, 3)
    assert np.abs(expected - actual).max() < 0.51


def test_pictures_become_latents_and_back(diffusion, library):
    pictures = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = library.vae.encode(pictures).latent_dist.mean * library.vae.config.scaling_factor
    assert torch.allclose(diffusion.encode_images(pictures), expected, atol=1e-5)
    assert diffusion.encode_images(pictures).shape == (3, 4, SIZE // 8, SIZE // 8)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_weighted_error_of_the_prediction(folder, tmp_path, prediction):
    """Computed by hand: training noise whatever the checkpoint's sampler is, and min-SNR weights."""
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = copy / "scheduler" / "scheduler_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"prediction_type": prediction}))
    diffusion = load_diffusion(copy)
    rng = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=rng)
    conditioning, timesteps = diffusion.encode_prompts(PROMPTS), torch.tensor([40, 800])
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    alphas_cumprod = (1 - betas).cumprod(0)[timesteps].view(2, 1, 1, 1)
    added = None
    if diffusion.is_xl:
        sizes = torch.tensor([[SIZE, SIZE, 0, 0, SIZE, SIZE]] * 2)
        added = {"text_embeds": conditioning.pooled, "time_ids": sizes}
    noisy = alphas_cumprod.sqrt() * latents + (1 - alphas_cumprod).sqrt() * noise
    with torch.no_grad():
        unet = diffusion.pipeline.unet
        predicted = unet(noisy, timesteps, conditioning.context, added_cond_kwargs=added).sample
        actual = diffusion.denoising_losses(latents, conditioning, timesteps, noise)
    snr = alphas_cumprod / (1 - alphas_cumprod)
    if prediction == "epsilon":
        error, scale = predicted - noise, snr
    else:
        error, scale = predicted - (alphas_cumprod.sqrt() * noise - (1 - alphas_cumprod).sqrt() * latents), snr + 1
    weight = (snr.clamp(max=5) / scale).flatten() + 0.05
    assert torch.allclose(actual, error.square().mean((1, 2, 3)) * weight, rtol=1e-4)


def test_half_precision_gives_similar_pictures_and_losses(folder, diffusion):
    rough = load_diffusion(folder, dtype=torch.bfloat16)
    assert rough.dtype == torch.bfloat16
    assert rough.pipeline.vae.dtype == (torch.float32 if rough.is_xl else torch.bfloat16)
    quick = RenderOptions(steps=2, guidance=2)
    actual, expected = (model.render(PROMPTS, [1, 2], options=quick).astype(float) for model in (rough, diffusion))
    assert np.abs(actual - expected).mean() < 2
    latents, noise = torch.randn(2, 2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    losses = [
        model.denoising_losses(latents, model.encode_prompts(PROMPTS), torch.tensor([100, 700]), noise).detach()
        for model in (rough, diffusion)
    ]
    assert losses[0].dtype == torch.float32
    assert torch.allclose(losses[0], losses[1], rtol=0.05)
    assert rough.encode_images(torch.zeros(1, 3, SIZE, SIZE)).dtype == torch.float32


def test_two_models_in_one_process_are_independent(sd15_folder, sdxl_folder):
    small, large = load_diffusion(sd15_folder), load_diffusion(sdxl_folder)
    before = small.render(PROMPTS, [1, 2], options=QUICK)
    large.render(PROMPTS, [1, 2], options=RenderOptions(steps=2, scheduler="euler-a"))
    small.render(["a *"], [1], torch.zeros(1, 1, DIM), options=RenderOptions(steps=3, scheduler="unipc"))
    assert np.array_equal(small.render(PROMPTS, [1, 2], options=QUICK), before)


def test_a_pipeline_is_identified_by_name_and_digest(folder, diffusion):
    assert (diffusion.name, diffusion.revision) == resolve_revision(folder, None)


def test_another_kind_of_pipeline_is_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadConfig, match="no DiffusionPipeline") as error:
        load_diffusion(tmp_path / "empty")
    assert error.value.uri == str(tmp_path / "empty")
    other = shutil.copytree(folder, tmp_path / "other")
    index = other / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "FluxPipeline"}))
    with pytest.raises(
        BadConfig, match="FluxPipeline is not supported: choose a StableDiffusionPipeline or a"
    ) as error:
        load_diffusion(other)
    assert error.value.uri == str(other)


def test_a_missing_scheduler_is_an_error(folder, tmp_path):
    bare = shutil.copytree(folder, tmp_path / "bare")
    shutil.rmtree(bare / "scheduler")
    with pytest.raises(BadConfig, match="no DiffusionPipeline") as error:
        load_diffusion(bare)
    assert error.value.uri == str(bare)


def test_the_pooled_embedding_is_taken_at_the_end_token(sdxl_folder):
    diffusion = load_diffusion(sdxl_folder)
    pooled = diffusion.encode_prompts(["a rain city", "a fire city"]).pooled
    assert pooled.shape == (2, POOLED_DIM) and (pooled[0] - pooled[1]).abs().max() > 0.01
