"""Throws hostile bytes at every decoder and at the checks of arrays; only ProtocolError may come back.

    python tests/fuzz/decoder_fuzz.py --inputs 10000000 --seed 0

Prints one JSON line of figures. Ends with 1 and the input, in hex, where anything else was raised, where an input took
longer than a second, or where memory grew beyond what the inputs justify.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

if __name__ == "__main__":  # a script's own folder is on the path, a test's is not
    sys.path.insert(0, str(Path(__file__).parent))
    from messages import LINKS, sample
    from mutations import mutated, noise
else:
    from .messages import LINKS, sample
    from .mutations import mutated, noise

import msgspec
import numpy as np
from embedfleet.protocol.errors import ProtocolError
from embedfleet.protocol.wire import arrays
from embedfleet.protocol.wire.arrays import ArrayHeader
from embedfleet.protocol.wire.codec import Decoder, encode

POOL = 400
"""Valid messages of each link to start from; renewed now and then."""
RENEW = 50_000
SLOW_SECONDS = 1.0
GROWTH_BYTES = 64 << 20
"""Of the process, over the whole campaign: the inputs have some kilobytes each."""
SHAPES = (0, 0, 1, 2, 5, *[2**31 - 1] * 3, 2**31, 2**63 - 1, -1, 2**64 - 1)
ITEM_BYTES = {name: np.dtype(name).itemsize for name in arrays.DTYPES}
DTYPE_NAMES = (*sorted(ITEM_BYTES), *sorted(ITEM_BYTES), "|O", "object", "<U9", "float32", "", "<f4" * 50, "<M8[ns]")


@dataclass
class Figures:
    """What a campaign came to. `findings` is empty where all went well."""

    inputs: int = 0
    accepted: int = 0
    refused: int = 0
    array_checks: int = 0
    array_refusals: int = 0
    slowest: float = 0.0
    longest: int = 0
    findings: list[str] = field(default_factory=list[str])
    by_link: Counter[str] = field(default_factory=Counter[str])


def resident() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def campaign(inputs: int, seed: int) -> Figures:
    """So many inputs, the same ones for a seed."""
    rng = random.Random(seed)
    decoders: dict[str, Decoder[Any]] = {name: Decoder(union) for name, union in LINKS.items()}
    names, figures = list(LINKS), Figures()
    pool = _fresh(rng)
    base = resident()
    for number in range(inputs):
        if number % RENEW == RENEW - 1:
            pool = _fresh(rng)
        name = names[number % len(names)]
        if rng.random() < 0.15:
            frame = noise(rng)
        else:
            source = name if rng.random() < 0.9 else rng.choice(names)  # sometimes of another link
            frame = mutated(rng.choice(pool[source]), rng.choice(pool[source]), rng)
        figures.by_link[name] += 1
        _throw(name, decoders[name], frame, rng, figures)
    if (grown := resident() - base) > GROWTH_BYTES:
        figures.findings.append(f"memory grew by {grown} bytes")
    return figures


def _fresh(rng: random.Random) -> dict[str, list[bytes]]:
    return {
        name: [encode(sample(rng.choice(get_args(union)), rng)) for _ in range(POOL)] for name, union in LINKS.items()
    }


def _throw(name: str, decoder: Decoder[Any], frame: bytes, rng: random.Random, figures: Figures) -> None:
    figures.inputs += 1
    figures.longest = max(figures.longest, len(frame))
    start = time.perf_counter()
    try:
        message = decoder.decode(frame if rng.random() < 0.9 else memoryview(frame))
    except ProtocolError as error:
        figures.refused += 1
        if len(str(error)) > 2_000:
            figures.findings.append(f"{name}: a message of {len(str(error))} characters for {frame[:200].hex()}")
    except BaseException as error:  # noqa: BLE001 - that nothing else comes out is what is tested
        figures.findings.append(f"{name}: {type(error).__name__}: {str(error)[:200]} for {frame.hex()}")
    else:
        figures.accepted += 1
        if type(message) not in get_args(LINKS[name]):
            figures.findings.append(f"{name}: {type(message).__name__} came out for {frame.hex()}")
        _check(getattr(message, "arrays", ()), rng, figures)
    if rng.random() < 0.1:
        _check(_headers(rng), rng, figures)
    seconds = time.perf_counter() - start
    figures.slowest = max(figures.slowest, seconds)
    if seconds > SLOW_SECONDS:
        figures.findings.append(f"{name}: {seconds:.1f} s for {frame[:500].hex()}")


def _headers(rng: random.Random) -> list[ArrayHeader]:
    return [
        ArrayHeader(
            rng.choice(("vector", "", "x" * 5_000)),
            rng.choice(DTYPE_NAMES),
            tuple(rng.choice(SHAPES) for _ in range(rng.choice((0, 1, 2, 3, 4, 4, 5, 400)))),
        )
        for _ in range(rng.randrange(3))
    ]


def _check(headers: Any, rng: random.Random, figures: Figures) -> None:
    """Frames of the right length, where that is some length to have, or of any."""
    frames: list[bytes] = []
    for header in headers:
        exact = math.prod(header.shape[:8]) * ITEM_BYTES.get(header.dtype, 1)
        frames.append(bytes(exact if 0 <= exact < 10_000 and rng.random() < 0.8 else rng.randrange(50)))
    if rng.random() < 0.1:
        frames = frames[1:]
    figures.array_checks += 1
    try:
        found = arrays.unpack(headers, frames)
    except ProtocolError:
        figures.array_refusals += 1
    except BaseException as error:  # noqa: BLE001 - as above
        what = [(one.name[:20], one.dtype[:20], one.shape[:9]) for one in headers]
        figures.findings.append(f"arrays: {type(error).__name__}: {str(error)[:200]} for {what}")
    else:
        if any(found[one.name].nbytes > 10_000 for one in headers):
            figures.findings.append("arrays: more came out than went in")


def main() -> int:
    """Run one campaign and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=10_000_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    start = time.monotonic()
    figures = campaign(given.inputs, given.seed)
    seconds = time.monotonic() - start
    report = {**vars(figures), "findings": len(figures.findings), "by_link": dict(figures.by_link), "seed": given.seed}
    report |= {"seconds": round(seconds, 1), "peak_rss_mib": resident() >> 20, "msgspec": msgspec.__version__}
    sys.stdout.write(json.dumps(report) + "\n")
    for one in figures.findings[:20]:
        sys.stderr.write(one[:2_000] + "\n")
    return 1 if figures.findings else 0


if __name__ == "__main__":
    sys.exit(main())
