"""Coverage-guided fuzzing of one target with Atheris (libFuzzer).

    python tests/fuzz/fuzz.py TARGET FOLDER [-max_total_time=60] [-runs=1000000] …

FOLDER keeps what it finds worth keeping; tests/fuzz/corpus/TARGET is read as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
with atheris.instrument_imports(include=["gateway", "control.config", "control.twilio", "targets"]):
    from targets import TARGETS  # type: ignore[import-not-found]


def main() -> None:
    """Run until libFuzzer's options say that it is enough; a finding ends the process with an error."""
    name, folder, *options = sys.argv[1:]
    Path(folder).mkdir(parents=True, exist_ok=True)
    corpus = str(HERE / "corpus" / name)
    limits = ["-max_len=4096", "-timeout=10", f"-artifact_prefix={folder}/"]
    atheris.Setup([sys.argv[0], folder, corpus, *limits, *options], TARGETS[name])
    atheris.Fuzz()


main()
