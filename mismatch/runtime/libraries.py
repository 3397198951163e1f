"""What libraries would send home by themselves, switched off where mismatch loads them."""

from __future__ import annotations

import os

__all__ = ["SWITCHES", "send_nothing"]

# Import name → the environment variables that it reads as it is loaded, or as it starts, and the
# value of each that keeps it silent.
SWITCHES: dict[str, dict[str, str]] = {
    "gradio": {"GRADIO_ANALYTICS_ENABLED": "False"},  # under trackio
    "huggingface_hub": {"HF_HUB_DISABLE_TELEMETRY": "1"},
    "mlflow": {"MLFLOW_DISABLE_TELEMETRY": "true"},
    # 1.32: a device's id and a database of events in the home folder, and a collector's host looked
    # up
    "onnxruntime": {"ORT_DISABLE_TELEMETRY": "1"},
    "ray": {"RAY_USAGE_STATS_ENABLED": "0"},
    # it asks a bot on the hub to convert weights without safetensors
    "transformers": {"DISABLE_SAFETENSORS_CONVERSION": "1"},
    # it reports errors to its maker; what the user tracks goes where the user says
    "wandb": {"WANDB_ERROR_REPORTING": "false"},
}


def send_nothing(*libraries: str) -> None:
    """Switch off what these libraries send about their use, where the user's environment does not
    say otherwise; call it before they are loaded.
    """
    for library in libraries:
        for name, value in SWITCHES[library].items():
            os.environ.setdefault(name, value)
