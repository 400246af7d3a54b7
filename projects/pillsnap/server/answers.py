"""What the server says, as typed JSON: the OpenAPI description is made from these."""

from pydantic import BaseModel, ConfigDict, Field


class Spoken(BaseModel):
    """An answer that is written once and not changed."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class Problem(Spoken):
    """Why a request got no answer."""

    error: str = Field(description="a short name that a program can compare", examples=["queue_full"])
    detail: str = Field(description="one sentence for a person")


class Candidate(Spoken):
    """One pill that it may be."""

    kcode: str
    name: str
    probability: float = Field(ge=0, le=1, description="calibrated, among the known pills")


class NoneOfThese(Spoken):
    """Whether the pill is none of those that the model knows."""

    probability: float = Field(ge=0, le=1)
    threshold: float = Field(description="above this probability it is decided")
    decided: bool


class ModelFacts(Spoken):
    """Which model answered."""

    version: str
    variant: str


class PreprocessingFacts(Spoken):
    """Which preprocessing the photo went through."""

    version: int
    digest: str


class PhotoReport(Spoken):
    """What the gateway check says about a photo."""

    valid: bool
    format: str | None
    mode: str | None
    size: tuple[int, int] | None = Field(
        description="width and height in pixels of the upright photo; of one that is refused, as in its header"
    )
    file_size_kb: float
    warnings: list[str]
    error: str | None


class Timings(Spoken):
    """Where the time went, in milliseconds."""

    decode: float = Field(description="checking, decoding and squaring this photo")
    queue: float = Field(description="waiting for a worker")
    model: float = Field(description="the pass through the model, of the whole batch that this photo was in")
    total: float = Field(description="from the request's head to the answer, upload included")


class Prediction(Spoken):
    """The answer for one photo."""

    candidates: list[Candidate] = Field(description="at most five, the most probable first")
    none_of_these: NoneOfThese
    model: ModelFacts
    preprocessing: PreprocessingFacts
    photo: PhotoReport
    timings_ms: Timings


class BatchItem(Spoken):
    """The answer for one photo of several."""

    filename: str | None
    status: int = Field(description="what this photo alone would have been answered with")
    prediction: Prediction | None
    problem: Problem | None


class BatchPrediction(Spoken):
    """The answers for several photos, in their order."""

    answers: list[BatchItem]


class Health(Spoken):
    """The process is alive."""

    status: str = "alive"


class Readiness(Spoken):
    """The server takes photos."""

    status: str = "ready"
    workers: int = Field(description="workers that are alive and have loaded the model")
    queue: int = Field(description="photos that wait")
    model: ModelFacts


class ClientPhoto(Spoken):
    """What a client does with a photo before it sends it."""

    orientation: str = "apply EXIF, then drop it"
    crop: str = "centre_square"
    size_px: int
    format: str = "image/jpeg"
    jpeg_quality: int = Field(description="of 100")


class Limits(Spoken):
    """What the server refuses beyond."""

    max_photo_bytes: int
    max_files: int
    max_form_bytes: int
    formats: list[str] = Field(description="formats that are taken without a warning")


class Contract(Spoken):
    """The contract between client and server."""

    client: ClientPhoto
    limits: Limits
    server: dict[str, object] = Field(description="what the server does with the photo: the preprocessor's settings")
    digest: str = Field(description="SHA-256 of `server` as canonical JSON")
    model: ModelFacts
    num_classes: int
