"""One stand-in story: its text, and the annotation that follows from what was written."""

from typing import Any

import numpy as np

from projects.redheart.standin import templates
from projects.redheart.standin.config import StandinConfig
from projects.redheart.standin.templates import Level, spoken
from projects.redheart.tasks import EMOTIONS, SURD_METRICS

_HARM_REGRET = 0.25  # harm done to another is regretted more: this part of regret stands in `action` only
_EMOTION_SURPRISE = 0.3


class StoryDraft:
    """Draws a story; `true` holds the annotation before noise.

    Args:
        config: Shares and noise.
        label: Emotion in which the story ends.
        generator: Source of everything random here.
    """

    def __init__(self, config: StandinConfig, label: int, generator: np.random.Generator) -> None:
        self.config, self.generator = config, generator
        self.label, self.secondary = label, (label + int(generator.integers(1, len(EMOTIONS)))) % len(EMOTIONS)
        name, other = generator.choice(len(templates.NAMES), size=2, replace=False)
        self.cast = {
            "name": templates.NAMES[name],
            "other": templates.NAMES[other],
            "place": self._pick(templates.PLACES),
            "thing": self._pick(templates.THINGS),
        }
        self.true: dict[str, float] = {}
        sentences = [self._say(self._pick(templates.OPENINGS)), *self._course(), self._circumstances()]
        sentences += [self._level("surprise", templates.SURPRISE), self._prospect()]
        sentences += [self._level("uncertainty", templates.UNCERTAINTY), self._nature()]
        sentences += [self._level("depth", templates.DEPTH), self._level("regret", templates.REGRET)]
        self.text = " ".join(sentences)
        title = {key: value.title() for key, value in self.cast.items()}
        self.title = spoken(self._choose("relevance", templates.RELEVANCE), title)
        self.action = self._level("help", templates.ACTIONS) + "."

    def _pick(self, items: tuple[str, ...]) -> str:
        return items[int(self.generator.integers(len(items)))]

    def _say(self, pattern: str) -> str:
        said = spoken(pattern, self.cast)
        return said[0].upper() + said[1:]

    def _choose(self, key: str, levels: tuple[Level, ...]) -> str:
        """Draw a level, note its value and return one of its phrases."""
        value, phrases = levels[int(self.generator.integers(len(levels)))]
        self.true[key] = value
        return self._pick(phrases)

    def _level(self, key: str, levels: tuple[Level, ...]) -> str:
        return self._say(self._choose(key, levels))

    def _feel(self, emotion: int, count: int) -> list[str]:
        """Return sentences of one feeling; some of them fit others as well, but not all."""
        name = EMOTIONS[emotion]
        own = [templates.FEELINGS[name][place] for place in self.generator.permutation(len(templates.FEELINGS[name]))]
        shared = [sentence for names, sentence in templates.AMBIGUOUS if name in names]
        said = own[:count]
        for place in range(count - 1):
            if self.generator.random() < self.config.ambiguous_share:
                said[place] = self._pick(tuple(shared))
        return [self._say(pattern) for pattern in self.generator.permutation(said)]

    def _course(self) -> list[str]:
        """Return the feelings in their order: where they turn, the last one is the label."""
        count = int(self.generator.integers(1, 3))
        turned = self.generator.random() < self.config.turn_share
        before = self.secondary if turned else self.label
        link = self._pick(templates.TURNS if turned else templates.NO_TURNS)
        if turned:
            return [*self._feel(before, count), self._say(link), *self._feel(self.label, count)]
        felt = self._feel(self.label, 2 * count)
        return [*felt[:count], self._say(link), *felt[count:]]

    def _circumstances(self) -> str:
        strength, how_long, whom = (
            spoken(self._choose(key, levels), self.cast)
            for key, levels in (
                ("intensity", templates.INTENSITY),
                ("duration", templates.DURATION),
                ("extent", templates.EXTENT),
            )
        )
        return f"It was felt {strength}, {how_long}, and it touched {whom}."

    def _prospect(self) -> str:
        sure, when = self._choose("certainty", templates.CERTAINTY), self._choose("propinquity", templates.PROPINQUITY)
        return f"The consequences would {sure} come {when}."

    def _nature(self) -> str:
        breeds, kind = self._choose("fecundity", templates.FECUNDITY), self._choose("purity", templates.PURITY)
        return f"It would {breeds}, {kind}."

    def annotation(self) -> dict[str, Any]:
        """Return the fields of the file, with the configured noise; drawn anew at each call."""
        true, feeling = self.true, EMOTIONS[self.label]
        label = self.label
        if self.generator.random() < self.config.label_noise:
            label = int(self.generator.integers(len(EMOTIONS)))
        bentham = [
            *(true[key] for key in ("intensity", "duration", "certainty", "propinquity", "fecundity", "purity")),
            true["extent"],
            true["help"],
            true["help"] * (0.5 + true["extent"] / 2),
            0.7 * templates.VALENCE[feeling] + 0.3 * true["intensity"],
        ]
        surd = {
            "surprise": true["surprise"] + _EMOTION_SURPRISE * (feeling == "surprise"),
            **{key: true[key] for key in SURD_METRICS if key != "surprise"},
        }
        regret = true["regret"] + (_HARM_REGRET if true["help"] < 0.3 else 0.0)
        return {
            "label": label,
            "emotions": {
                "primary": EMOTIONS[label],
                "secondary": EMOTIONS[self.secondary if self.secondary != label else self.label],
                "intensity": self._noisy(true["intensity"]),
            },
            "regret_factor": self._noisy(regret),
            "bentham_scores": [self._noisy(value) for value in bentham],
            "surd_metrics": {key: self._noisy(value) for key, value in surd.items()},
        }

    def _noisy(self, value: float) -> float:
        noisy = value + self.config.score_noise * float(self.generator.standard_normal())
        return round(min(max(noisy, 0.0), 1.0), 4)
