"""Coverage-guided fuzzing of one target with Atheris (libFuzzer).

    python tests/fuzz/fuzz.py TARGET FOLDER [-max_total_time=60] [-runs=1000000] …

FOLDER keeps what it finds worth keeping; tests/fuzz/corpus/TARGET is read as well. Afterwards

    python tests/fuzz/fuzz.py TARGET FOLDER -merge=1

adds to the corpus what reaches code that nothing in it reaches, and no more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).resolve().parent
TARGET = "TANDEM_FUZZ_TARGET"
sys.path[:0] = [str(HERE.parents[1]), str(HERE)]
NAME = os.environ.get(TARGET) or sys.argv[1]
HANDLERS = ("head", "post_call", "initiation", "twilio_webhook")
HANGS_S = {True: 60, False: 10}
"""An input that takes longer hangs; that of a handler may have to wait for a new application and its store."""
INSTRUMENTED = (
    *("gateway", "targets", "ports", "control.config", "control.twilio", "control.journal"),
    *("control.returning", "control.hooks", "control.results", "control.sms", "control.front"),
    *("control.answering", "control.ending", "control.switchboard", "control.strangers"),
)
with atheris.instrument_imports(include=list(INSTRUMENTED)):
    # Handlers need half of the program, decoders do not.
    if NAME in HANDLERS:
        from ports import TARGETS  # type: ignore[import-not-found]
    else:
        from targets import TARGETS  # type: ignore[import-not-found]


def main() -> None:
    """Run until libFuzzer's options say that it is enough; a finding ends the process with an error."""
    # libFuzzer merges in processes of its own: it calls what it takes for the program, with all options but ours.
    program = f"{sys.executable} {Path(__file__).resolve()}"
    if any(option.startswith("-merge_control_file") for option in sys.argv):
        atheris.Setup([program, *sys.argv[1:]], TARGETS[NAME])
    else:
        folder, *options = sys.argv[2:]
        os.environ[TARGET] = NAME
        Path(folder).mkdir(parents=True, exist_ok=True)
        corpus = str(HERE / "corpus" / NAME)
        folders = [corpus, folder] if "-merge=1" in options else [folder, corpus]
        hangs_s = HANGS_S[NAME in HANDLERS]
        limits = ["-max_len=4096", f"-timeout={hangs_s}", f"-artifact_prefix={folder}/"]
        atheris.Setup([program, *folders, *limits, *options], TARGETS[NAME])
    atheris.Fuzz()


main()
