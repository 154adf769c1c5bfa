"""Converting a model for another backend in a process of its own, whose memory goes back when it ends.

Belongs here: that process, and asking for it. Does not belong here: the conversion (backends.py), where what came of it
is kept and when it pays (local.py).
"""

import subprocess
import sys
from pathlib import Path

from embed_pipeline.encoding import backends
from embed_pipeline.encoding.encoder import Backend, EncoderSettings
from embed_pipeline.interruption import end_with_parent

CONVERTED_FILES: dict[str, str] = {"openvino": "model.xml", "onnx": "model.onnx"}
"""The file in the folder of a conversion that its backend opens."""
_REFUSED = 3


def convert_apart(settings: EncoderSettings, directory: Path, backend: Backend, out: Path) -> None:
    """Fill the empty folder `out` with what `backend` runs of the model in `directory`.

    Raises:
        ValueError: the model cannot be converted, or is no sound model.
        RuntimeError: the process ended otherwise, as when memory ran out.
    """
    command = [sys.executable, "-m", __name__, backend, str(directory), str(out)]
    done = subprocess.run(
        command,
        input=settings.model_dump_json(),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        preexec_fn=end_with_parent,
    )
    if done.returncode == _REFUSED:
        raise ValueError(done.stdout.strip())
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(
            f"{directory}: converting the model for {backend} ended with status {done.returncode}, expected 0. "
            f"{' '.join(said)} Set backend: torch, or try again with more memory."
        )


def main() -> int:
    """What that process does; settings come as JSON on standard input."""
    from embed_pipeline.encoding.local import load_local_encoder

    backend, directory, out = sys.argv[1:]
    settings = EncoderSettings.model_validate_json(sys.stdin.read())
    try:
        model = load_local_encoder(settings, directory=Path(directory)).traceable
        write = {"openvino": backends.save_openvino, "onnx": backends.trace_onnx}[backend]
        write(model, Path(out) / CONVERTED_FILES[backend])
    except ValueError as error:
        sys.stdout.write(str(error))
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
