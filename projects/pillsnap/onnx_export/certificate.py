"""The certificate beside a model file: which bytes were tested against the PyTorch path, and with what result.

`model.onnx` has `model.certificate.json`. Only what the server has may be imported here: no torch, no onnx.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared.atomic import write_json
from shared.errors import UserError

CERTIFICATE_FORMAT = "pillsnap-certificate-1"
SUFFIX = ".certificate.json"
_NUMBERS = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")


class ModelRefused(UserError):  # noqa: N818 - a refusal, as in shared.errors.RunInterrupted
    """A model file may not answer questions: it is not certified, not the certified one, or not for this server."""


def certificate_path(model: Path) -> Path:
    """Where the certificate of a model file stands: the same folder, the same stem."""
    return model.with_name(model.stem + SUFFIX)


def remove_pair(model: Path) -> None:
    """Remove a model file and its certificate, the model first; nothing is done where there are none."""
    model.unlink(missing_ok=True)
    certificate_path(model).unlink(missing_ok=True)


def sha256_hex(content: bytes) -> str:
    """SHA-256 of some bytes, 64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def write_certificate(
    model: Path,
    *,
    source: Mapping[str, Any],
    preprocessing_digest: str,
    versions: Mapping[str, str],
    provider: str,
    preprocessing_agreement: Mapping[str, Any],
    network_agreement: Mapping[str, Any],
    passed: bool,
) -> Path:
    """Certify the file as it is now.

    Args:
        model: The ONNX file.
        source: {"run", "final_sha256"}: what was exported.
        preprocessing_digest: Of the preprocessing that the file holds or needs.
        versions: Of at least "onnxruntime", with which the agreement was measured.
        provider: Execution provider of onnxruntime with which it was measured.
        preprocessing_agreement: {"images", "max_grey_levels", "tolerance"}.
        network_agreement: {"images", "max_abs_probability", "top1_agreement", "tolerances"} and more.
        passed: Whether both are within their tolerances; a server refuses the file otherwise.

    Returns:
        Path of the certificate.

    Raises:
        ValueError: If the version of onnxruntime is not given, or does not begin with two numbers.
    """
    if _version(versions.get("onnxruntime")) is None:
        raise ValueError(f"versions are {dict(versions)}; that of onnxruntime is needed, in numbers such as 1.20.0")
    content = model.read_bytes()
    path = certificate_path(model)
    write_json(
        path,
        {
            "format": CERTIFICATE_FORMAT,
            "model": {"file": model.name, "sha256": sha256_hex(content), "bytes": len(content)},
            "source": dict(source),
            "preprocessing_digest": preprocessing_digest,
            "versions": dict(versions),
            "provider": provider,
            "preprocessing_agreement": dict(preprocessing_agreement),
            "network_agreement": dict(network_agreement),
            "passed": passed,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )
    return path


def read_certificate(model: Path) -> dict[str, Any]:
    """Content of the certificate of a model file, its form checked.

    Raises:
        ModelRefused: If there is none, it cannot be read, has another format or lacks an entry.
    """
    path = certificate_path(model)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelRefused(
            f"{model} has no certificate ({path.name} is missing); export the model again with projects.pillsnap.export"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelRefused(f"certificate {path} cannot be read: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if found != CERTIFICATE_FORMAT:
        raise ModelRefused(f"certificate {path} has format {found!r}, allowed: {CERTIFICATE_FORMAT!r}")
    entries = (("model", dict), ("preprocessing_digest", str), ("versions", dict), ("passed", bool))
    for key, kind in entries:
        if not isinstance(content.get(key), kind):
            raise ModelRefused(f"certificate {path} has no usable entry {key!r}")
    runtime = content["versions"].get("onnxruntime")
    if _version(runtime) is None:
        raise ModelRefused(
            f"certificate {path} was made with onnxruntime {runtime!r}; a version in numbers, such as '1.20.0', is "
            "needed"
        )
    return dict(content)


def check_certificate(model: Path, content: bytes, runtime: str) -> dict[str, Any]:
    """The certificate of a model file, once it is sure that it certifies these bytes for this runtime.

    Args:
        model: The ONNX file.
        content: Its bytes, the same that will be run.
        runtime: Version of onnxruntime that will run them.

    Raises:
        ModelRefused: If there is no certificate, or it is about other bytes, or the test was not passed, or the runtime
            is older than the one of the test.
    """
    certificate = read_certificate(model)
    stated, found = str(certificate["model"].get("sha256")), sha256_hex(content)
    if stated != found:
        raise ModelRefused(
            f"{model} is not the file that was certified: its SHA-256 begins with {found[:12]}, the certificate says "
            f"{stated[:12]}"
        )
    if not certificate["passed"]:
        raise ModelRefused(
            f"{model} did not pass its test against the trained network; {certificate_path(model)} has the numbers"
        )
    certified = certificate["versions"]["onnxruntime"]
    if (_version(runtime) or ()) < (_version(certified) or ()):
        raise ModelRefused(
            f"{model} was certified with onnxruntime {certified}, this is the older {runtime}; install {certified} or "
            "later"
        )
    return certificate


def _version(text: object) -> tuple[int, ...] | None:
    """First three numbers of a version: '1.31.1+cpu' is (1, 31, 1), '2.0' is (2, 0, 0), 'latest' is None."""
    found = _NUMBERS.match(text) if isinstance(text, str) else None
    return None if found is None else tuple(int(number or 0) for number in found.groups())
