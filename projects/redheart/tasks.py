"""What the network says about a story: four tasks, their sizes, and the names of their numbers."""

EMOTIONS: tuple[str, ...] = ("joy", "sadness", "anger", "fear", "disgust", "surprise", "neutral")
"""Names of the labels 0 to 6. The reference work never names them: these are ours."""

BENTHAM_SCORES: tuple[str, ...] = (
    "intensity", "duration", "certainty", "propinquity", "fecundity", "purity", "extent", "moral_value",
    "social_utility", "personal_value",
)  # fmt: skip
"""The seven circumstances of Bentham, "An Introduction to the Principles of Morals and Legislation" (1789), ch. IV, and
three that the reference work adds without a name; the last three names are ours."""

SURD_METRICS: tuple[str, ...] = ("surprise", "uncertainty", "relevance", "depth")

EMOTION = "emotion"
SCORES: dict[str, tuple[str, ...]] = {"bentham": BENTHAM_SCORES, "regret": ("regret_factor",), "surd": SURD_METRICS}
"""Tasks whose answer is numbers in [0, 1], and the names of these numbers."""

TASKS: dict[str, int] = {EMOTION: len(EMOTIONS)} | {name: len(numbers) for name, numbers in SCORES.items()}
"""Task -> size of its answer."""
