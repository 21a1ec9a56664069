"""Windows of recordings: where they are placed, which are left out, and why."""

import numpy as np
import pytest
from pydantic import ValidationError

from aai.media.audio import AudioOptions
from aai.media.windows import Window, cut, no_window, split, windows
from tests.media.sounds import sine

RATE_HZ = 4_000


def options(**changes) -> AudioOptions:
    return AudioOptions(**changes)


def grid(**changes) -> AudioOptions:
    return AudioOptions(placement="grid", **changes)


def noise(duration_s: float, dbfs: float, seed: int = 0) -> np.ndarray:
    wave = np.random.default_rng(seed).normal(0, 10 ** (dbfs / 20), round(duration_s * RATE_HZ))
    return wave.astype(np.float32)


def with_sounds(duration_s: float, *spans: tuple[float, float], dbfs: float = -60.0) -> np.ndarray:
    """Tones in noise, from the one second to the other."""
    wave = noise(duration_s, dbfs)
    for start_s, end_s in spans:
        first = round(start_s * RATE_HZ)
        tone = sine(end_s - start_s, RATE_HZ)[:, 0]
        wave[first : first + len(tone)] += tone
    return wave


def found_in(wave: np.ndarray, chosen: AudioOptions) -> list[tuple[float, float]]:
    return [(round(start, 1), round(length, 1)) for start, length in windows(wave, RATE_HZ, chosen)]


@pytest.mark.parametrize(
    "duration_s, changes, found",
    [
        (25, {}, [(0, 10), (10, 10), (20, 5)]),
        (25, {"min_window_s": 6}, [(0, 10), (10, 10)]),
        (2, {"min_window_s": 6}, [(0, 2)]),
        (20, {}, [(0, 10), (10, 10)]),
        (25, {"hop_s": 5}, [(0, 10), (5, 10), (10, 10), (15, 10)]),
        (27, {"hop_s": 5}, [(0, 10), (5, 10), (10, 10), (15, 10), (20, 7)]),
        (25, {"hop_s": 20}, [(0, 10), (20, 5)]),
        (0, {}, []),
    ],
)
def test_a_grid_takes_one_window_after_another(duration_s, changes, found):
    assert windows(sine(duration_s, RATE_HZ)[:, 0], RATE_HZ, grid(**changes)) == found


@pytest.mark.parametrize(
    "duration_s, changes, found",
    [
        (25, {}, [(0, 10), (10, 10), (15, 10)]),
        (20.5, {}, [(0, 10), (10, 10)]),
        (2, {"min_window_s": 6}, [(0, 2)]),
        (10, {}, [(0, 10)]),
        (27, {"hop_s": 5}, [(0, 10), (5, 10), (10, 10), (15, 10), (17, 10)]),
        (0, {}, []),
    ],
)
def test_a_steady_recording_is_cut_into_windows_of_one_length(duration_s, changes, found):
    assert windows(sine(duration_s, RATE_HZ)[:, 0], RATE_HZ, options(**changes)) == found


@pytest.mark.parametrize(
    "spans, found",
    [
        ([(8, 13)], [(3, 10)]),  # a grid cuts it at 10 s
        ([(2, 5), (9, 14)], [(0, 9), (9, 10)]),  # both together are longer than a window
        ([(3, 5), (8, 12)], [(2, 10)]),
        ([(0.5, 1), (2, 2.5), (4, 4.5), (5.5, 6)], [(0, 10)]),  # ticks
        ([(4, 29)], [(4, 10), (14, 10), (19, 10)]),
        ([(27, 30)], [(20, 10)]),
    ],
)
def test_no_border_cuts_a_sound_that_a_window_holds(spans, found):
    assert found_in(with_sounds(30, *spans), options()) == found


def test_what_is_between_sounds_and_is_no_noise_has_windows_of_its_own():
    wave = with_sounds(60, (28, 31), dbfs=-20)
    wave[28 * RATE_HZ : 31 * RATE_HZ] += 4 * sine(3, RATE_HZ)[:, 0]
    chosen = options(background_db=None)
    assert found_in(wave, chosen) == [(0, 10), (10, 10), (11, 10), (21, 10), (31, 10), (41, 10), (50, 10)]
    assert found_in(wave, options()) == [(21, 10)]


@pytest.mark.parametrize("level_dbfs, is_kept", [(-15, True), (-30, False), (-50, False)])
def test_steady_noise_far_below_the_recordings_own_level_becomes_no_clip(level_dbfs, is_kept):
    wave = with_sounds(40, (0, 10), dbfs=level_dbfs)  # of -9 dBFS
    found = split(wave, RATE_HZ, grid())
    assert found.windows == [Window(0, 10), *([Window(s, 10) for s in (10, 20, 30)] if is_kept else [])]
    assert found.left_out == (0, 0 if is_kept else 30, 0)
    assert len(windows(wave, RATE_HZ, grid(background_db=None))) == 4


def test_a_quiet_sound_is_no_noise_unless_it_is_far_below():
    wave = with_sounds(40, (0, 10), dbfs=-65)
    wave[25 * RATE_HZ : 26 * RATE_HZ] += 0.08 * sine(1, RATE_HZ)[:, 0]  # 22 dB below
    assert found_in(wave, grid()) == [(0, 10), (20, 10)]
    assert found_in(wave, grid(background_db=20)) == [(0, 10)]


def test_noise_alone_is_the_recordings_own_level():
    wave = noise(30, -50)
    assert found_in(wave, options()) == [(0, 10), (10, 10), (20, 10)]


@pytest.mark.parametrize(
    "duration_s, changes, found",
    [
        (25, {"min_window_s": 6}, (5, 0, 0)),
        (20.5, {}, (0.5, 0, 0)),
        (0.5, {}, (0, 0, 0)),
        (25, {"hop_s": 20}, (0, 0, 10)),
        (35, {"hop_s": 20}, (0, 0, 15)),
        (40.5, {"hop_s": 20}, (0.5, 0, 20)),
        (27, {"hop_s": 5, "min_window_s": 8}, (2, 0, 0)),
    ],
)
def test_what_is_in_no_window_is_counted(duration_s, changes, found):
    wave = sine(duration_s, RATE_HZ)[:, 0]
    assert split(wave, RATE_HZ, grid(**changes)).left_out == pytest.approx(found)


@pytest.mark.parametrize("hop_s, found", [(10, (0, 10, 0)), (5, (0, 0, 0)), (20, (0, 0, 10))])
def test_what_is_in_silent_windows_alone_is_counted(hop_s, found):
    wave = sine(30, RATE_HZ)[:, 0]
    wave[40_000:80_000] *= 1e-4
    assert split(wave, RATE_HZ, grid(hop_s=hop_s)).left_out == found


@pytest.mark.parametrize("chosen", [options(), grid()])
def test_silent_windows_are_skipped(chosen):
    wave = sine(30, RATE_HZ)[:, 0]
    wave[40_000:80_000] *= 1e-4
    assert windows(wave, RATE_HZ, chosen) == [(0, 10), (20, 10)]
    lower = chosen.model_copy(update={"silence_dbfs": -100.0, "background_db": None})
    assert windows(wave, RATE_HZ, lower) == [(0, 10), (10, 10), (20, 10)]
    assert windows(wave * 0, RATE_HZ, chosen) == []


def test_every_second_is_in_a_window_or_counted():
    rng = np.random.default_rng(3)
    for _ in range(50):
        starts = np.sort(rng.uniform(0, 55, 4))
        wave = with_sounds(60, *((s, min(60, s + rng.uniform(0.2, 15))) for s in starts), dbfs=rng.uniform(-70, -20))
        chosen = options(window_s=rng.choice([5, 10]), hop_s=10, background_db=rng.choice([None, 30.0]))
        found = split(wave, RATE_HZ, chosen)
        covered = np.zeros(len(wave), bool)
        for window in found.windows:
            assert window.duration_s <= chosen.window_s and window.start_s >= 0
            covered[round(window.start_s * RATE_HZ) : round((window.start_s + window.duration_s) * RATE_HZ)] = True
        assert covered.sum() / RATE_HZ + sum(found.left_out) == pytest.approx(60, abs=0.01)
        assert len(set(found.windows)) == len(found.windows)


SOUND_AT_THE_END = np.concatenate([np.zeros(40_000, np.float32), sine(0.5, RATE_HZ)[:, 0]])
SOUND_AT_11_S = np.concatenate([np.zeros(44_000, np.float32), sine(0.5, RATE_HZ)[:, 0], np.zeros(54_000, np.float32)])


@pytest.mark.parametrize(
    "wave, changes, reason",
    [
        (SOUND_AT_THE_END, {}, "in the last window, which is shorter than min_window_s: lower min_window_s"),
        (SOUND_AT_11_S, {"hop_s": 20}, "between two windows: lower hop_s"),
        (0.0015 * sine(2, RATE_HZ)[:, 0], {}, "silent as mono: the loudest part of all channels together has -66 dBFS"),
    ],
)
def test_a_recording_without_a_window_has_the_reason(wave, changes, reason):
    assert windows(wave, RATE_HZ, grid(**changes)) == []
    assert reason in no_window(wave, RATE_HZ, grid(**changes))


@pytest.mark.parametrize("wave, found", [(SOUND_AT_THE_END, [(0.5, 10)]), (SOUND_AT_11_S, [(1.5, 10)])])
def test_sounds_that_a_grid_leaves_out_have_a_window(wave, found):
    assert found_in(wave, options()) == found


def test_windows_cover_the_recording():
    wave = np.random.default_rng(0).normal(size=11_025 * 25).astype(np.float32)
    parts = [cut(wave, 11_025, window) for window in windows(wave, 11_025, grid(window_s=1.7, hop_s=1.7))]
    assert np.array_equal(np.concatenate(parts), wave[: sum(map(len, parts))])
    assert len(wave) - sum(map(len, parts)) < 11_025


@pytest.mark.parametrize("changes", [{"placement": "onsets"}, {"background_db": 0}])
def test_unknown_placements_and_levels_are_refused(changes):
    with pytest.raises(ValidationError):
        AudioOptions(**changes)
