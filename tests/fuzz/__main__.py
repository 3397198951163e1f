"""`python -m tests.fuzz TARGET --minutes N`: mutate inputs of a reader until something else than a
result or one line of error comes out.

With atheris, coverage of the project's code guides it, and new inputs may be kept with --corpus;
without, inputs are mutated blindly.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import random
import sys
import tempfile
import time
import traceback
from pathlib import Path

PIECES = (
    b"\0",
    b"\xff" * 4,
    b'"',
    b"\r\n",
    b"\n",
    b",",
    b"\t",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud800",
    b"[" * 5000,
    b'{"a":' * 3000,
    b"1e999",
    b"NaN",
    b"-1",
    b"9" * 5000,
    b"../",
    b"null",
    b"&a [*a]",
    b"!!python/object:os.system",
    b"\x80" * 10,
    b"\x7f\xff\xff\xff",
    b"\xed\xa0\x80",
    "\u202e".encode(),
)
MAX_INPUT = 2**16  # bytes of an input
SLOW = 10.0  # seconds of CPU for one input, beyond which it is a finding


def mutated(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    """One to eight changes: a bit, a byte, a piece put in, cut out, doubled, or taken from another
    input.
    """
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4, 8))):
        at, size = chance.randrange(len(found) + 1), chance.choice((1, 2, 4, 16, 64))
        kind = chance.randrange(6)
        if kind == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and at < len(found):
            found[at] = chance.randrange(256)
        elif kind == 2:
            found[at : at + chance.choice((0, size))] = chance.choice(PIECES)
        elif kind == 3:
            del found[at : at + size]
        elif kind == 4:
            found[at:at] = found[at : at + size] * chance.choice((1, 2, 50))
        else:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            found[at:] = other[start:]
    return bytes(found[:MAX_INPUT])


def main() -> int:
    """Exit status 1 where something was found; the input lies in --keep then."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("targets", nargs="*", help="all, if none is named")
    parser.add_argument(
        "--minutes", type=float, default=1.0, help="CPU time of each target (default: 1)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of blind mutation (default: 0)")
    parser.add_argument(
        "--keep",
        type=Path,
        default=Path("fuzz-findings"),
        help="folder for inputs that fail (default: fuzz-findings)",
    )
    parser.add_argument(
        "--corpus", type=Path, help="folder for inputs that reach new code, with atheris"
    )
    parser.add_argument(
        "--guided", action="store_true", help="by coverage; needs atheris, and one target"
    )
    parser.add_argument("--list", action="store_true", help="name the targets")
    options = parser.parse_args()
    if options.guided:
        return guided(options, parser)
    from tests.fuzz.targets import TARGETS

    if options.list:
        print("\n".join(TARGETS))
        return 0
    if unknown := sorted(set(options.targets) - set(TARGETS)):
        parser.error(f"there is no target {unknown[0]!r}; {', '.join(TARGETS)} are there")
    return int(sum(blind(name, options) for name in options.targets or TARGETS) > 0)


def blind(name: str, options: argparse.Namespace) -> int:
    """How many different failures were found."""
    from tests.fuzz.targets import TARGETS

    target, chance = TARGETS[name], random.Random(f"{name} {options.seed}")
    seeds, failures, tries, start = target.seeds(), set(), 0, time.process_time()
    while (spent := time.process_time() - start) < 60 * options.minutes:
        data = mutated(chance.choice(seeds), chance, seeds) if tries >= len(seeds) else seeds[tries]
        tries += 1
        before = time.process_time()
        try:
            target.check(data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            if (where := (type(error).__name__, last.filename, last.lineno)) not in failures:
                failures.add(where)
                print(
                    f"{name}: {type(error).__name__}: {str(error)[:300]}\n "
                    f" {last.filename}:{last.lineno}\n  {kept(options.keep, name, data)}",
                    flush=True,
                )
        if (seconds := time.process_time() - before) > SLOW and (
            where := ("slow", name, 0)
        ) not in failures:
            failures.add(where)
            print(
                f"{name}: {seconds:.0f} s for one input\n  {kept(options.keep, name, data)}",
                flush=True,
            )
    print(
        f"{name}: {tries:,} inputs in {spent / 60:.1f} CPU minutes, {len(failures)} findings",
        flush=True,
    )
    return len(failures)


def kept(folder: Path, name: str, data: bytes) -> Path:
    """Where an input was put that fails."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def guided(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Atheris ends the process itself, with 77 where something was found."""
    try:
        import atheris
    except ImportError:
        parser.error("--guided needs atheris: pip install atheris")
    if len(options.targets) != 1:
        parser.error("--guided takes one target")
    with atheris.instrument_imports(include=["mismatch"]):
        from tests.fuzz.targets import TARGETS
    target = TARGETS[options.targets[0]]
    with contextlib.ExitStack() as stack:
        corpus = options.corpus or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        corpus.mkdir(parents=True, exist_ok=True)
        for seed in target.seeds():
            kept(corpus, "seed", seed)
        options.keep.mkdir(parents=True, exist_ok=True)
        limits = (
            f"-max_total_time={int(60 * options.minutes)}",
            f"-max_len={MAX_INPUT}",
            f"-timeout={int(SLOW)}",
            "-rss_limit_mb=4096",
        )
        atheris.Setup(
            [
                sys.argv[0],
                *limits,
                f"-artifact_prefix={options.keep}/{options.targets[0]}-",
                "-print_final_stats=1",
                str(corpus),
            ],
            target.check,
        )
        atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
