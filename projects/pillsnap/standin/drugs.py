"""The made-up drugs of a stand-in set: what each pill looks like, and which pairs differ in their imprint only."""

from collections import Counter
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from projects.pillsnap.standin.config import StandinConfig, stream

# Shares after the NIH reference photographs: half round, a third elongated, the rest rare; a third white.
SHAPES = {"round": 46, "oval": 18, "capsule": 14, "caplet": 8, "triangle": 2.5, "square": 2, "rectangle": 2}
SHAPES |= {"pentagon": 2, "hexagon": 2, "tear": 2, "diamond": 1.5}
COLORS: dict[str, tuple[float, tuple[int, int, int]]] = {
    "white": (34, (236, 235, 230)),
    "yellow": (13, (240, 208, 92)),
    "pink": (12, (232, 158, 166)),
    "orange": (10, (226, 124, 46)),
    "blue": (8, (74, 128, 196)),
    "brown": (6, (134, 80, 50)),
    "green": (5, (108, 168, 104)),
    "purple": (3, (122, 82, 150)),
    "red": (3, (186, 44, 42)),
    "gray": (3, (150, 150, 152)),
    "turquoise": (3, (84, 186, 186)),
}
ELONGATED = ("oval", "capsule", "caplet", "rectangle")
SCORABLE = ("round", "oval", "caplet", "rectangle", "square")
SAME_KIND = 3  # drugs of one shape, colour, score, profile and kind of imprint; their shade and gloss differ
# No I, O, Q, J, 0, 1: on a worn tablet nobody tells them from l, D, O or 7.
LETTERS, DIGITS = "ABCDEFGHKLMNPRSTUVWXYZ", "23456789"
NAME_STARTS = ("Al", "Be", "Cor", "Dal", "El", "Fen", "Gal", "Hel", "Iv", "Kar", "Lo", "Mer", "Nor", "Or", "Pel", "Ru")
NAME_MIDDLES = ("va", "do", "mi", "tra", "xi", "lo", "ne", "pra", "cu", "zo", "be", "ri")
NAME_ENDS = ("ral", "tine", "zol", "pril", "mab", "dex", "line", "cor", "vir", "one")
MAKERS = ("Norvane Pharma", "Hollin & Reed", "Castellar Labs", "Tamber Health", "Ostwin Remedies", "Quillon Biotech")


@dataclass(frozen=True)
class Drug:
    """One made-up drug and the look of its pill, which depends on nothing else.

    Attributes:
        kcode: Identity, `K-` and six digits.
        name: Made-up trade name with a strength.
        manufacturer: Made-up company.
        shape: Key of `SHAPES`.
        colors: One key of `COLORS`, or two: the halves of a two-piece capsule.
        rgb: sRGB values 0 to 255 of each colour for this drug.
        parts: Imprint; one part, or two that stand on either side of the score line or seam, or on two lines.
        score: none, line or notch.
        profile: domed, bevelled, flat or capsule: the height over the outline.
        printed: True for ink, False for letters pressed into the surface.
        ink: sRGB values of the ink.
        gloss: Strength of the highlight, 0 to 1.
        speckle: Strength of dark grains in the mass, 0 to 1.
        aspect: Short over long side of an elongated shape.
    """

    kcode: str
    name: str
    manufacturer: str
    shape: str
    colors: tuple[str, ...]
    rgb: tuple[tuple[int, int, int], ...]
    parts: tuple[str, ...]
    score: str
    profile: str
    printed: bool
    ink: tuple[int, int, int]
    gloss: float
    speckle: float
    aspect: float

    @property
    def number(self) -> int:
        """Return the digits of the K-code as a number."""
        return int(self.kcode[2:])

    @property
    def imprint(self) -> str:
        """Return the imprint as one string."""
        return " ".join(self.parts)

    @property
    def form(self) -> str:
        """Return the form of the medicine."""
        if self.shape == "capsule":
            return "capsule"
        return "film-coated tablet" if self.gloss > 0.3 else "tablet"

    def as_row(self, weight: float) -> dict[str, Any]:
        """Return the row of `top_100_drugs.json`."""
        row = {"kcode": self.kcode, "name": self.name, "manufacturer": self.manufacturer, "form": self.form}
        looks = {"shape": self.shape, "colors": list(self.colors), "imprint": self.imprint}
        return row | {"weight": weight} | looks

    def body(self) -> dict[str, Any]:
        """Return all that shows on the pill apart from the imprint."""
        own = asdict(self)
        return {key: own[key] for key in own if key not in {"kcode", "name", "manufacturer", "parts"}}


@dataclass(frozen=True)
class Catalogue:
    """All drugs of a stand-in set.

    Attributes:
        known: The classes, sorted by K-code.
        unknown: Drugs that are no class, sorted by K-code; every fourth has the body of a class.
        pairs: K-codes of the look-alike pairs among the classes.
    """

    known: tuple[Drug, ...]
    unknown: tuple[Drug, ...]
    pairs: tuple[tuple[str, str], ...]

    def find(self, domain: str, kcode: str) -> Drug:
        """Return a drug; `others` holds the unknown ones, the other domains the known ones.

        Raises:
            ValueError: No such drug there.
        """
        drugs = self.unknown if domain == "others" else self.known
        for drug in drugs:
            if drug.kcode == kcode:
                return drug
        raise ValueError(f"kcode is {kcode!r}; allowed in {domain}: one of its {len(drugs)} K-codes.")


@lru_cache(maxsize=4)
def plan_drugs(config: StandinConfig) -> Catalogue:
    """Return the drugs of a configuration; they depend on its seed, class counts and look-alike share only."""
    rng = stream("drugs", config.seed)
    codes = [f"K-{code:06d}" for code in rng.choice(900_000, config.num_classes + config.num_unknown_classes, False)]
    names, imprints, bodies = set[str](), set[tuple[str, ...]](), Counter[tuple[Any, ...]]()

    def named(drug: Drug) -> Drug:
        return replace(drug, kcode=codes.pop(), name=_new_name(rng, names))

    known: list[Drug] = []
    pairs: list[tuple[str, str]] = []
    while len(known) < config.num_classes:
        drug = named(_new_drug(rng, imprints, bodies))
        known.append(drug)
        if len(pairs) < config.num_pairs:
            twin = named(replace(drug, parts=_other_imprint(rng, drug.parts, imprints)))
            known.append(twin)
            pairs.append((drug.kcode, twin.kcode))
    unknown = []
    for number in range(config.num_unknown_classes):
        if number % 4 == 0:
            drug = known[int(rng.integers(len(known)))]
            drug = replace(drug, parts=_other_imprint(rng, drug.parts, imprints))
        else:
            drug = _new_drug(rng, imprints, bodies)
        unknown.append(named(drug))
    known.sort(key=lambda drug: drug.kcode)
    unknown.sort(key=lambda drug: drug.kcode)
    return Catalogue(tuple(known), tuple(unknown), tuple(pairs))


def _new_drug(rng: np.random.Generator, imprints: set[tuple[str, ...]], bodies: Counter[tuple[Any, ...]]) -> Drug:
    """Return a drug with a new imprint and a body of a kind that few others have."""
    for _ in range(50):
        drug = _draw_body(rng)
        key = (drug.shape, drug.colors, drug.score, drug.profile, drug.printed)
        if bodies[key] < SAME_KIND:
            break
    bodies[key] += 1
    while (parts := _draw_parts(rng, drug)) in imprints:
        pass
    imprints.add(parts)
    return replace(drug, parts=parts)


def _draw_body(rng: np.random.Generator) -> Drug:
    shape = _draw(rng, SHAPES)
    capsule = shape == "capsule"
    shares = {name: share for name, (share, _) in COLORS.items()}
    colors = [_draw(rng, shares)]
    if capsule and rng.random() < 0.65:
        colors.append(_draw(rng, {name: share for name, share in shares.items() if name != colors[0]}))
    profile = "capsule" if capsule else _draw(rng, {"domed": 5, "bevelled": 3, "flat": 2})
    score = _draw(rng, {"none": 6, "line": 3, "notch": 1}) if shape in SCORABLE else "none"
    coated = capsule or rng.random() < 0.4
    printed = capsule or (coated and score == "none" and rng.random() < 0.3)
    rgb = tuple(_shade_of(rng, name) for name in colors)
    dark_ink = min(sum(values) for values in rgb) > 400
    return Drug(
        kcode="",
        name="",
        manufacturer=MAKERS[int(rng.integers(len(MAKERS)))],
        shape=shape,
        colors=tuple(colors),
        rgb=rgb,
        parts=(),
        score=score,
        profile=profile,
        printed=printed,
        ink=((34, 34, 40), (30, 50, 110))[int(rng.random() < 0.25)] if dark_ink else (238, 238, 234),
        gloss=round(float(rng.uniform(0.45, 0.9) if coated else rng.uniform(0.05, 0.2)), 3),
        speckle=round(float(rng.uniform(0.4, 1.0)), 3) if not coated and rng.random() < 0.15 else 0.0,
        aspect=round(float(rng.uniform(0.36, 0.42) if capsule else rng.uniform(0.46, 0.62)), 3),
    )


def _draw_parts(rng: np.random.Generator, drug: Drug) -> tuple[str, ...]:
    """Return an imprint that has room on the pill: letters, digits or both, in one or two parts."""
    long = drug.shape in ("oval", "caplet", "rectangle")
    letters = "".join(rng.choice(list(LETTERS), int(rng.integers(1, 3))))
    digits = "".join(rng.choice(list(DIGITS), int(rng.integers(1, 4 if long else 3))))
    if drug.score == "line" or drug.shape == "capsule" or drug.shape in ("square", "hexagon"):
        return (letters, digits)
    if long:
        return (letters + digits,)
    if drug.shape in ("triangle", "tear", "diamond", "pentagon") or rng.random() < 0.5:
        return ((letters + digits)[: 3 if drug.shape in ("round", "pentagon") else 2],)
    return (letters, digits)


def _other_imprint(rng: np.random.Generator, parts: tuple[str, ...], imprints: set[tuple[str, ...]]) -> tuple[str, ...]:
    """Return an imprint of the same layout that no drug has: one character differs, or all of one part."""
    whole_part = rng.random() < 0.5
    for attempt in range(1000):
        changed = list(parts)
        which = int(rng.integers(len(parts)))
        old = changed[which]
        # After many tries one character is not enough: its replacements are all taken.
        places = range(len(old)) if whole_part or attempt > 200 else [int(rng.integers(len(old)))]
        new = list(old)
        for place in places:
            alphabet = DIGITS if old[place] in DIGITS else LETTERS
            new[place] = str(rng.choice([char for char in alphabet if char != old[place]]))
        changed[which] = "".join(new)
        if tuple(changed) not in imprints:
            imprints.add(tuple(changed))
            return tuple(changed)
    raise ValueError(f"imprint {parts!r} has no free neighbour left; ask for fewer classes or look-alikes.")


def _new_name(rng: np.random.Generator, names: set[str]) -> str:
    while True:
        stem = "".join(str(rng.choice(table)) for table in (NAME_STARTS, NAME_MIDDLES, NAME_ENDS))
        name = f"{stem} {rng.choice((2, 5, 10, 20, 25, 40, 50, 75, 100, 150, 200, 500))} mg"
        if name not in names:
            names.add(name)
            return name


def _shade_of(rng: np.random.Generator, name: str) -> tuple[int, int, int]:
    """Return this drug's shade of a colour."""
    base = np.array(COLORS[name][1], float)
    spread = 5.0 if name in ("white", "gray") else 12.0
    values = np.clip(base * rng.uniform(0.93, 1.05) + rng.normal(0, spread, 3), 8, 248).astype(int)
    return int(values[0]), int(values[1]), int(values[2])


def _draw(rng: np.random.Generator, shares: dict[str, Any]) -> str:
    weights = np.array(list(shares.values()), float)
    return str(rng.choice(list(shares), p=weights / weights.sum()))
