"""How surely does the audit tell copies of a recording from other recordings that sound like it?

    python benchmarks/near_duplicates.py CORPUS [--copies 60] [--json FILE]

CORPUS is any folder of recordings; EMOVO's holds the same sentences said again by the same speakers. Copies are made of
some recordings: cut elsewhere, filtered, with noise, clipped, through codecs and other sampling rates. What is no copy:
all pairs of the corpus, vowels that are sung alike, and different bursts with the same quiet tails. Of each kind it
prints the share of bits that differ and the correlation of the waves' signs, which the audit compares with its limits,
and how many pairs those limits call alike. A pair of the corpus that is called alike is compared by its samples, which
the limits know nothing of: where these correlate it is a copy that the corpus holds.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import soundfile
from figures import Figure, parser, report
from scipy.signal import butter, correlate, resample_poly, sosfilt

from bserkit.corpora.audit.near_duplicates import (
    BIT_ERRORS,
    SIGN_CORRELATION,
    Agreement,
    Fingerprint,
    agreement,
    fingerprint,
    votes,
)
from bserkit.corpora.reading import audio_files

Change = Callable[[np.ndarray, int, np.random.Generator], tuple[np.ndarray, int]]
RATE = 16000


def cut(start: float, end: float | None = None) -> Change:
    """Leave out what comes before and after, seconds."""
    return lambda sound, rate, _: (sound[round(start * rate) : None if end is None else round(end * rate)], rate)


def filtered(order: int, limits: float | list[float], kind: str) -> Change:
    """Filter, with the phases that such filters have."""
    return lambda sound, rate, _: (sosfilt(butter(order, limits, kind, fs=rate, output="sos"), sound), rate)


def noisy(ratio_db: float) -> Change:
    """Add white noise."""

    def change(sound: np.ndarray, rate: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
        return sound + np.std(sound) * 10 ** (-ratio_db / 20) * generator.normal(size=len(sound)), rate

    return change


def resampled(to: int) -> Change:
    """Bring to another sampling rate."""
    return lambda sound, rate, _: (resample_poly(sound, to // np.gcd(to, rate), rate // np.gcd(to, rate)), to)


def coded(container: str, subtype: str, level: float | None = None) -> Change:
    """Write and read in another format."""

    def change(sound: np.ndarray, rate: int, _: np.random.Generator) -> tuple[np.ndarray, int]:
        buffer = io.BytesIO()
        soundfile.write(buffer, sound, rate, format=container, subtype=subtype, compression_level=level)
        buffer.seek(0)
        return soundfile.read(buffer)

    return change


def together(*changes: Change) -> Change:
    """Make several changes, one after the other."""

    def change(sound: np.ndarray, rate: int, generator: np.random.Generator) -> tuple[np.ndarray, int]:
        for one in changes:
            sound, rate = one(sound, rate, generator)
        return sound, rate

    return change


def clipped(sound: np.ndarray, rate: int, _: np.random.Generator) -> tuple[np.ndarray, int]:
    """Cut off all above a quarter of the peak."""
    limit = np.abs(sound).max() / 4
    return np.clip(sound, -limit, limit), rate


def quieter(sound: np.ndarray, rate: int, _: np.random.Generator) -> tuple[np.ndarray, int]:
    """Lower by 30 dB, in 16 bits."""
    return np.round(sound * 10**-1.5 * 32767) / 32767, rate


#: A hop of the fingerprint, samples at 8 kHz and seconds: half of one is the worst that a cut can do.
HOP_SAMPLES = 93
HOP = HOP_SAMPLES / 8000
COPIES: dict[str, Change] = {
    "cut by 7 1/4 hops": cut(7.25 * HOP),
    "cut by 7 1/2 hops": cut(7.5 * HOP),
    "1.5 s of it": cut(0.2, 1.7),
    "low pass, 3.4 kHz": filtered(6, 3400, "lowpass"),
    "telephone, 0.3-3.4 kHz": filtered(4, [300, 3400], "bandpass"),
    "noise, 30 dB": noisy(30),
    "noise, 20 dB": noisy(20),
    "30 dB quieter, 16 bits": quieter,
    "clipped at 1/4 of peak": clipped,
    "MP3": coded("MP3", "MPEG_LAYER_III"),
    "Ogg Vorbis, least": coded("OGG", "VORBIS", 0.99),
    "8 kHz, mu-law": together(resampled(8000), coded("WAV", "ULAW")),
    "16 kHz": resampled(16000),
    "44.1 kHz": resampled(44100),
    "cut, 16 kHz, 20 dB, MP3": together(cut(0.13), resampled(16000), noisy(20), coded("MP3", "MPEG_LAYER_III")),
}


def vowel(seed: int, glide_hz: float, ratio_db: float) -> np.ndarray:
    """Return ``(time,)`` of a vowel whose fixed formants and falling pitch all takes share, jitter and noise apart."""
    generator = np.random.default_rng(seed)
    time = np.arange(2 * RATE) / RATE
    pitch = 180 + glide_hz * time / 2 + 2 * np.interp(time, np.linspace(0, 2, 8), generator.normal(size=8))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    sound = np.zeros_like(time)
    for harmonic in range(1, 16):
        for formant, width, size in ((600, 400, 1.0), (1800, 500, 0.5)):
            loud = size * np.exp(-(((harmonic * 180 - formant) / width) ** 2))
            sound += loud * np.cos(harmonic * phase + generator.uniform(0, 2 * np.pi))
    sound = np.pad(sound * np.sin(np.pi * time / 2), (generator.integers(800) + 3200, 8000))
    return sound + np.std(sound) * 10 ** (-ratio_db / 20) * generator.normal(size=len(sound))


def tailed(seed: int, tail: str) -> np.ndarray:
    """Return ``(time,)`` of a burst of noise of its own before two seconds that others have too, in 16 bits."""
    generator = np.random.default_rng(seed)
    time = np.arange(2 * RATE) / RATE
    quiet = {
        "silence": np.zeros_like(time),
        "an offset": np.where(time < 1, 0.0, -1 / 32767),
        "a hum of 1 bit": 1.4 / 32767 * np.sin(2 * np.pi * 50 * time + generator.uniform(0, 6)),
        "a loud hum": 0.03 * sum(np.sin(2 * np.pi * 50 * harmonic * time) / harmonic for harmonic in range(1, 40)),
    }
    burst = 0.2 * generator.normal(size=RATE) * np.hanning(RATE)
    return np.round(np.concatenate([burst, quiet[tail]]) * 32767) / 32767


def compared(prints: Sequence[Fingerprint]) -> dict[tuple[int, int], tuple[Agreement, int]]:
    """Return for each pair with two equal words how far it agrees at its best, and at which offset."""
    found: dict[tuple[int, int], tuple[Agreement, int]] = {}
    for (first, second, offset), count in votes(prints).items():
        if count < 2 or not (one := agreement(prints[first], prints[second], offset)):
            continue
        before = found.get((first, second))
        if not before or (alike(one), -one.bit_errors) > (alike(before[0]), -before[0].bit_errors):
            found[first, second] = one, offset
    return found


def alike(one: Agreement) -> bool:
    """Say whether the limits call this a copy."""
    return one.bit_errors <= BIT_ERRORS and one.sign_correlation >= SIGN_CORRELATION


def correlation(one: np.ndarray, other: np.ndarray, offset: int) -> float:
    """Return the largest correlation of half a second amid the overlap of two sounds with a stretch of the other."""
    middle = (max(0, -offset) + min(len(one), len(other) - offset)) // 2
    ours = one[max(0, middle - 2000) : middle + 2000]
    energy = correlate(other**2, np.ones(len(ours)), "valid")
    return float((np.abs(correlate(other, ours, "valid")) / np.sqrt(energy * (ours @ ours) + 1e-12)).max())


def line(name: str, pairs: int, found: Sequence[Agreement]) -> str:
    """Return a row of the table."""
    cells = [f"{name:<28}{pairs:>8}{len(found):>10}{sum(map(alike, found)):>8}"]
    if found:
        bits, signs = [one.bit_errors for one in found], [one.sign_correlation for one in found]
        cells += [
            "".join(f"{value:>7.3f}" for value in (min(values), np.median(values), max(values)))
            for values in (bits, signs)
        ]
    return "   ".join(cells)


def at_8khz(path: Path) -> np.ndarray:
    """Return ``(time,)`` of a recording, 700 to 2000 Hz."""
    samples, rate = soundfile.read(path, always_2d=True)
    sound, _ = resampled(8000)(samples.mean(axis=1), rate, np.random.default_rng(0))
    return sosfilt(butter(4, [700, 2000], "bandpass", fs=8000, output="sos"), sound)


def main() -> None:
    """Print the table."""
    options = parser(__doc__)
    options.add_argument("corpus", type=Path, help="a folder of recordings")
    options.add_argument("--copies", type=int, default=60, help="how many recordings copies are made of")
    given = options.parse_args()
    paths = audio_files(given.corpus)
    sounds = [(samples.T, rate) for samples, rate in (soundfile.read(path, always_2d=True) for path in paths)]
    prints = [fingerprint(samples, rate) for samples, rate in sounds]
    print(f"{'':<28}{'pairs':>8}{'compared':>10}{'alike':>8}   {'bits: min med max':>21}   {'signs: min med max':>21}")

    print("Copies")
    chosen = np.random.default_rng(0).permutation(len(paths))[: given.copies]
    made = missed = 0
    for name, change in COPIES.items():
        generator, agreed = np.random.default_rng(1), []
        for index in chosen:
            samples, rate = sounds[index]
            copy, its_rate = change(samples.mean(axis=0), rate, generator)
            agreed += [one for one, _ in compared([prints[index], fingerprint(copy[None], its_rate)]).values()]
        print(line(name, len(chosen), agreed), flush=True)
        made, missed = made + len(chosen), missed + len(chosen) - sum(map(alike, agreed))

    print("No copies")
    found = compared(prints)
    copies = [
        (first, second)
        for (first, second), (one, offset) in found.items()
        if alike(one) and correlation(at_8khz(paths[first]), at_8khz(paths[second]), offset * HOP_SAMPLES) > 0.7
    ]
    others = [one for pair, (one, _) in found.items() if pair not in copies]
    pairs, wrong = len(paths) * (len(paths) - 1) // 2 - len(copies), sum(map(alike, others))
    print(line("pairs of the corpus", pairs, others))
    kinds = {
        f"vowels, pitch {glide:+d} Hz, {ratio} dB": [vowel(seed, glide, ratio) for seed in range(24)]
        for glide in (-40, -10, 0)
        for ratio in (20, 40)
    }
    kinds |= {
        f"bursts before {tail}": [tailed(seed, tail) for seed in range(24)]
        for tail in ("silence", "an offset", "a hum of 1 bit", "a loud hum")
    }
    for name, ones in kinds.items():
        agreed = [one for one, _ in compared([fingerprint(sound[None], RATE) for sound in ones]).values()]
        print(line(name, len(ones) * (len(ones) - 1) // 2, agreed), flush=True)
        pairs, wrong = pairs + len(ones) * (len(ones) - 1) // 2, wrong + sum(map(alike, agreed))
    figures = {
        "copies not found": Figure(missed / made, "of 1", "lower", 0.02),
        "other recordings called copies": Figure(wrong / pairs, "of 1", "lower", 1e-5),
    }
    notes = [
        f"limits: {BIT_ERRORS:g} of bits, correlation {SIGN_CORRELATION:g}; {missed} of {made} copies were not found, "
        f"{wrong} of {pairs} other pairs were called copies",
        f"{len(copies)} pairs of the corpus are copies: "
        + (", ".join(f"{paths[first].name} {paths[second].name}" for first, second in copies) or "none"),
    ]
    report("near_duplicates", figures, given.json, notes)


if __name__ == "__main__":
    main()
