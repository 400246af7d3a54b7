"""The words of the stand-in stories: what is felt, what is done, and what the numbers of the other tasks read from."""

from typing import Any

FEELINGS: dict[str, tuple[str, ...]] = {
    "joy": (
        "{name} laughed out loud and could not stop smiling.",
        "A warm glow of delight spread through {name}.",
        "{name} sang all the way home, happy as never before.",
        "Everything tasted sweet, and {name} felt light.",
        "{name} hugged {other} and cheered.",
        "Gladness filled the {place}, and {name} danced.",
    ),
    "sadness": (
        "{name} wept quietly by the window.",
        "A heavy grief settled on {name}.",
        "{name} missed what was gone and could not eat.",
        "Tears ran down, and {name} felt hollow.",
        "{name} sat alone in the {place}, full of sorrow.",
        "Nothing consoled {name}; the loss was too near.",
    ),
    "anger": (
        "{name} slammed the door and shouted.",
        "Rage boiled up in {name}.",
        "{name} clenched both fists at the injustice.",
        "{name} cursed {other} with burning fury.",
        "It was an outrage, and {name} said so loudly.",
        "{name} glared across the {place}, seething.",
    ),
    "fear": (
        "{name} trembled and dared not move.",
        "Dread crept up the back of {name}.",
        "{name} hid in the dark, terrified.",
        "Every sound in the {place} made {name} flinch.",
        "{name} whispered that the danger was close.",
        "Panic took hold of {name}.",
    ),
    "disgust": (
        "{name} gagged at the foul smell.",
        "The sight was revolting, and {name} turned away.",
        "{name} spat it out in loathing.",
        "Something rotten lay in the {place}, and {name} felt sick.",
        "{name} recoiled from the filth.",
        "The whole affair was repulsive to {name}.",
    ),
    "surprise": (
        "{name} gasped; nobody had seen this coming.",
        "{name} stared with an open mouth.",
        "All at once everything was different, and {name} blinked.",
        "{name} could hardly believe it.",
        "It was astonishing, and {name} asked {other} to say it again.",
        "{name} jumped up, startled.",
    ),
    "neutral": (
        "{name} wrote the figures down and closed the book.",
        "{name} waited for the bus as on any other day.",
        "The {place} was as it always was, and {name} went on.",
        "{name} put the cups back on the shelf.",
        "{name} read the notice and nodded.",
        "{name} and {other} spoke about the timetable.",
    ),
}
"""Emotion -> sentences that only it uses."""

AMBIGUOUS: tuple[tuple[tuple[str, ...], str], ...] = (
    (("joy", "fear", "surprise"), "The heart of {name} was racing."),
    (("joy", "sadness", "surprise"), "Tears came to the eyes of {name}."),
    (("anger", "disgust", "sadness"), "{name} turned away without a word."),
    (("anger", "fear", "disgust"), "{name} felt a knot in the stomach."),
    (("neutral", "sadness", "fear"), "{name} kept silent for a while."),
    (("surprise", "neutral", "joy"), "{name} looked at {other} once more."),
    (("anger", "surprise", "fear"), "The hands of {name} were shaking."),
    (("disgust", "neutral", "joy", "sadness"), "{name} took a deep breath of the air in the {place}."),
)
"""Sentences that several emotions use."""

TURNS: tuple[str, ...] = (
    "But then the {thing} changed everything.",
    "In the end, because of the {thing}, it was otherwise.",
    "Then {other} spoke about the {thing}.",
    "Hours later the {thing} put it in another light.",
)
NO_TURNS: tuple[str, ...] = (
    "The {thing} made no difference.",
    "So it went on, with the {thing} as before.",
    "Even the {thing} did not alter it.",
    "{other} saw the {thing} too.",
)

NAMES = (
    "Mara",
    "Jonas",
    "Ines",
    "Tariq",
    "Olga",
    "Ben",
    "Sofia",
    "Kofi",
    "Lena",
    "Ravi",
    "Nora",
    "Pavel",
    "Yuki",
    "Amir",
    "Clara",
    "Hugo",
    "Zofia",
    "Diego",
    "Freya",
    "Samuel",
    "Leila",
    "Marek",
    "Alma",
    "Viktor",
    "Bao",
    "Elif",
)
PLACES = (
    "kitchen",
    "station",
    "old school",
    "harbour",
    "market",
    "hospital",
    "library",
    "orchard",
    "workshop",
    "garden",
    "courtroom",
    "village hall",
    "bakery",
    "ferry",
    "theatre",
    "mountain hut",
    "archive",
    "stable",
)
THINGS = (
    "letter",
    "broken watch",
    "photograph",
    "phone call",
    "wedding ring",
    "parcel",
    "court notice",
    "blue notebook",
    "stray dog",
    "missing key",
    "old violin",
    "newspaper",
    "train ticket",
    "medical report",
    "garden gate",
    "silver spoon",
    "torn map",
    "lost glove",
    "radio news",
    "birthday cake",
)
OPENINGS = (
    "{name} came to the {place} to see {other} about the {thing}.",
    "It began in the {place}, where {name} found the {thing}.",
    "{other} had left the {thing} in the {place}, and {name} picked it up.",
    "That morning {name} met {other} at the {place}; between them lay the {thing}.",
    "Nobody in the {place} but {name} and {other} knew about the {thing}.",
)

Level = tuple[float, tuple[str, ...]]
"""A value from 0 to 1 and the phrases that say it."""

INTENSITY: tuple[Level, ...] = (
    (0.15, ("only faintly", "barely")),
    (0.5, ("clearly", "plainly")),
    (0.85, ("overwhelmingly", "with full force")),
)
DURATION: tuple[Level, ...] = (
    (0.1, ("for a moment", "for a minute")),
    (0.45, ("for days", "the whole week")),
    (0.9, ("for years", "all their life")),
)
EXTENT: tuple[Level, ...] = (
    (0.1, ("nobody else", "{name} alone")),
    (0.45, ("the family", "a few neighbours")),
    (0.9, ("the whole town", "hundreds of people")),
)
CERTAINTY: tuple[Level, ...] = (
    (0.2, ("perhaps", "just possibly")),
    (0.55, ("probably", "most likely")),
    (0.95, ("certainly", "beyond any doubt")),
)
PROPINQUITY: tuple[Level, ...] = (
    (0.15, ("some day", "in a far future")),
    (0.5, ("before long", "within weeks")),
    (0.9, ("at once", "this very day")),
)
FECUNDITY: tuple[Level, ...] = (
    (0.15, ("lead to nothing more", "end with that")),
    (0.85, ("bring more of the same", "keep repeating itself")),
)
PURITY: tuple[Level, ...] = (
    (0.2, ("mixed with its opposite", "never quite free of doubt")),
    (0.85, ("pure and unmixed", "without any alloy")),
)
SURPRISE: tuple[Level, ...] = (
    (0.1, ("It had been expected for weeks.", "All had seen it coming.")),
    (0.8, ("It came out of the blue.", "Against all odds, it happened without warning.")),
)
UNCERTAINTY: tuple[Level, ...] = (
    (0.15, ("The facts were plain.", "There was no question about it.")),
    (0.8, ("Nobody knew what was true.", "Whether it would hold remained unclear.")),
)
DEPTH: tuple[Level, ...] = (
    (0.15, ("That was that.", "No more was thought of it.")),
    (0.8, ("What does one owe to another, {name} wondered.", "{name} thought long about what a life is for.")),
)
REGRET: tuple[Level, ...] = (
    (0.08, ("{name} would do the same again.", "There was nothing to take back.")),
    (0.45, ("Perhaps {name} should have waited.", "{name} might have chosen otherwise.")),
    (
        0.88,
        ("If only {name} had not done it!", "If only there had been another hour, {name} would have undone it all."),
    ),
)
RELEVANCE: tuple[Level, ...] = (
    (0.15, ("A Small Matter at the {place}", "An Ordinary Note on a {thing}")),
    (0.5, ("What Happened at the {place}", "The {thing} of {name}")),
    (0.88, ("The Day That Changed {name}", "{name} and the Question of a Lifetime")),
)
ACTIONS: tuple[Level, ...] = (
    (
        0.1,
        (
            "{name} took the {thing} away from {other}",
            "{name} lied to {other} about the {thing}",
            "{name} left {other} alone with the {thing}",
        ),
    ),
    (0.5, ("{name} put the {thing} aside", "{name} asked {other} about the {thing}", "{name} walked past the {place}")),
    (
        0.9,
        (
            "{name} gave the {thing} back to {other}",
            "{name} helped {other} with the {thing}",
            "{name} stood up for {other} at the {place}",
        ),
    ),
)
"""What was done, by what it means to the other person: 0.1 harm, 0.9 help. It stands in `action` only."""

VALENCE: dict[str, float] = {
    "joy": 0.95,
    "sadness": 0.15,
    "anger": 0.2,
    "fear": 0.15,
    "disgust": 0.1,
    "surprise": 0.6,
    "neutral": 0.5,
}
AROUSAL: dict[str, float] = {
    "joy": 0.7,
    "sadness": 0.3,
    "anger": 0.9,
    "fear": 0.85,
    "disgust": 0.6,
    "surprise": 0.8,
    "neutral": 0.15,
}
DOMINANCE: dict[str, float] = {
    "joy": 0.75,
    "sadness": 0.25,
    "anger": 0.7,
    "fear": 0.1,
    "disgust": 0.5,
    "surprise": 0.4,
    "neutral": 0.6,
}
"""Where a feeling lies on the three scales of self-assessment, 0 to 1."""


def spoken(pattern: str, cast: dict[str, Any]) -> str:
    """Put the cast of a story into a pattern; a title's words begin with a capital already."""
    return pattern.format(**cast)
