"""A certified model file, ready to answer: onnxruntime and numpy, without torch and without onnx."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from projects.pillsnap.onnx_export.certificate import ModelRefused, check_certificate
from projects.pillsnap.onnx_export.description import ModelDescription, PillClass
from projects.pillsnap.preprocess import PreprocessError, UnifiedPreprocessor

OUTPUTS = ("probabilities", "none_of_these", "logits")
_INPUTS = {"photo": ("photo", "tensor(uint8)"), "pixels": ("pixels", "tensor(float)")}


@dataclass(frozen=True)
class Answer:
    """What the model says about N photos.

    Attributes:
        probabilities: (N, K) float32, calibrated, rows sum to 1.
        none_of_these: (N,) float32 in [0, 1], the probability that the pill is none of the classes.
    """

    probabilities: NDArray[np.float32]
    none_of_these: NDArray[np.float32]


class ServedModel:
    """A loaded model file; make one with `load`.

    Attributes:
        path: The file.
        description: Its metadata.
        preprocess: The preprocessor that it holds or needs.
        certificate: Content of its certificate.
        threads: Threads that work on one call.
    """

    def __init__(
        self,
        path: Path,
        session: ort.InferenceSession,
        description: ModelDescription,
        preprocess: UnifiedPreprocessor,
        certificate: dict[str, object],
        threads: int,
    ) -> None:
        self.path = path
        self.description = description
        self.preprocess = preprocess
        self.certificate = certificate
        self.threads = threads
        self._session = session

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int = 1,
        provider: str = "CPUExecutionProvider",
        preprocessing: UnifiedPreprocessor | None = None,
    ) -> "ServedModel":
        """Load a model file, or say in one sentence why it may not be served.

        Args:
            path: The ONNX file; its certificate stands beside it.
            threads: Threads for one call, >= 1. With 1 the calling thread does the work, so that several threads may
                share one model and one copy of the weights.
            provider: Execution provider of onnxruntime.
            preprocessing: What the server's photos go through; None: whatever the file states, as long as this code
                does exactly that.

        Raises:
            ModelRefused: If the file is missing, has no certificate or not its own, did not pass, is of an unknown
                format, states another preprocessing than this code does, has other inputs or outputs, or the runtime is
                older than the certified one or lacks the provider.
            ValueError: If `threads` is below 1.
        """
        path = Path(path)
        if threads < 1:
            raise ValueError(f"threads is {threads}, allowed: 1 or more")
        if provider not in ort.get_available_providers():
            available = ", ".join(ort.get_available_providers())
            raise ModelRefused(f"onnxruntime has no provider {provider!r} here, allowed: {available}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelRefused(f"model file {path} cannot be read: {error.strerror or error}") from error
        certificate = check_certificate(path, content, ort.__version__)
        session = _session(path, content, threads, provider)
        try:
            description = ModelDescription.from_metadata(session.get_modelmeta().custom_metadata_map)
        except ValueError as error:
            raise ModelRefused(f"{path} {error}") from error
        preprocess = _preprocessor(path, description, str(certificate["preprocessing_digest"]), preprocessing)
        _check_tensors(path, session, description)
        return cls(path, session, description, preprocess, certificate, threads)

    @property
    def classes(self) -> tuple[PillClass, ...]:
        """The answers in the order of the probabilities."""
        return self.description.classes

    @property
    def version(self) -> str:
        """Name of the export."""
        return self.description.version

    @property
    def variant(self) -> str:
        """Name of the variant: "fp32", "int8", ..."""
        return self.description.variant

    @property
    def threshold(self) -> float:
        """Above this `none_of_these` the answer is 'none of these'."""
        return self.description.none_of_these.threshold

    def run(self, photos: NDArray[np.uint8]) -> Answer:
        """Answer N photos; may be called by several threads at once.

        Args:
            photos: (N, H, W, 3) uint8 RGB, N >= 1, upright; the square of the preprocessing or any other size.

        Raises:
            ValueError: If the shape or type is another.
        """
        if photos.dtype != np.uint8 or photos.ndim != 4 or photos.shape[3] != 3 or 0 in photos.shape:
            raise ValueError(f"photos are {photos.dtype} {photos.shape}, allowed: uint8 (N, H, W, 3) with N, H, W >= 1")
        form = self.description.form
        given = photos if form == "photo" else self.preprocess(photos)
        probabilities, none_of_these = self._session.run(list(OUTPUTS[:2]), {_INPUTS[form][0]: given})
        return Answer(probabilities, none_of_these)


def session_options(threads: int) -> ort.SessionOptions:
    """Options for all our sessions: fixed threads that sleep while they wait, all graph optimisations.

    A thread that spins while it waits takes the core from the other sessions of a server.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    return options


def _session(path: Path, content: bytes, threads: int, provider: str) -> ort.InferenceSession:
    try:
        return ort.InferenceSession(content, session_options(threads), providers=[provider])
    except Exception as error:
        raise ModelRefused(f"onnxruntime {ort.__version__} cannot load {path}: {error}") from error


def _preprocessor(
    path: Path, description: ModelDescription, certified: str, wanted: UnifiedPreprocessor | None
) -> UnifiedPreprocessor:
    """The preprocessor that the file states, once its digest is that of the file, the certificate and the server."""
    try:
        stated = UnifiedPreprocessor.from_config(dict(description.preprocessing))
    except (PreprocessError, TypeError, KeyError) as error:
        raise ModelRefused(f"{path} states a preprocessing that this code does not know: {error}") from error
    ours = stated.digest()
    told = [("its metadata", description.preprocessing_digest), ("its certificate", certified)]
    for whose, digest in [*told, ("what this server does", ours if wanted is None else wanted.digest())]:
        if digest != ours:
            raise ModelRefused(
                f"{path} needs another preprocessing: its digest begins with {ours[:12]}, that of {whose} with "
                f"{digest[:12]}"
            )
    return stated


def _check_tensors(path: Path, session: ort.InferenceSession, description: ModelDescription) -> None:
    name, kind = _INPUTS[description.form]
    inputs = [(tensor.name, tensor.type) for tensor in session.get_inputs()]
    if inputs != [(name, kind)]:
        raise ModelRefused(f"{path} has the inputs {inputs}, allowed for form {description.form!r}: {[(name, kind)]}")
    outputs = {tensor.name: tensor for tensor in session.get_outputs()}
    wrong = [key for key in OUTPUTS if key not in outputs or outputs[key].type != "tensor(float)"]
    if wrong:
        raise ModelRefused(f"{path} has no float32 output {' and no '.join(wrong)}; it has {', '.join(outputs)}")
    width = outputs["probabilities"].shape[-1]
    if width != len(description.classes):
        raise ModelRefused(f"{path} names {len(description.classes)} classes and gives {width} probabilities")
