from collections import Counter
from dataclasses import asdict

import pytest

from projects.pillsnap.standin.config import StandinConfig
from projects.pillsnap.standin.drugs import COLORS, SHAPES, Drug, plan_drugs

CATALOGUE = plan_drugs(StandinConfig())


def test_identities_and_imprints_are_unique_over_known_and_unknown():
    drugs = CATALOGUE.known + CATALOGUE.unknown
    assert (len(CATALOGUE.known), len(CATALOGUE.unknown)) == (100, 20)
    for name in ("kcode", "name", "parts"):
        assert len({getattr(drug, name) for drug in drugs}) == 120, name
    assert [drug.kcode for drug in CATALOGUE.known] == sorted(drug.kcode for drug in CATALOGUE.known)


def test_look_alikes_share_everything_but_identity_and_imprint():
    by_code = {drug.kcode: drug for drug in CATALOGUE.known}
    assert len(CATALOGUE.pairs) == 24
    assert len({kcode for pair in CATALOGUE.pairs for kcode in pair}) == 48
    changed = []
    for first, second in (map(by_code.get, pair) for pair in CATALOGUE.pairs):
        assert isinstance(first, Drug)
        assert isinstance(second, Drug)
        differing = {key for key, value in asdict(first).items() if asdict(second)[key] != value}
        assert differing == {"kcode", "name", "parts"}
        assert first.body() == second.body()
        assert [len(part) for part in first.parts] == [len(part) for part in second.parts]
        changed.append(sum(a != b for a, b in zip(first.imprint, second.imprint, strict=True)))
    assert min(changed) == 1  # one character alone
    assert max(changed) > 1


def test_no_others_have_one_body_so_the_pairs_are_all_there_are():
    bodies = Counter(str(drug.body()) for drug in CATALOGUE.known)
    assert sorted(bodies.values()) == [1] * 52 + [2] * 24


def test_every_fourth_unknown_drug_has_the_body_of_a_class():
    bodies = [drug.body() for drug in CATALOGUE.known]
    assert sum(drug.body() in bodies for drug in CATALOGUE.unknown) == 5


def test_shapes_and_colors_are_mixed_as_in_life():
    shapes = Counter(drug.shape for drug in CATALOGUE.known)
    colors = Counter(drug.colors[0] for drug in CATALOGUE.known)
    assert set(shapes) <= set(SHAPES)
    assert set(colors) <= set(COLORS)
    assert len(shapes) >= 8
    assert shapes["round"] >= 35
    assert shapes["capsule"] >= 6
    assert colors["white"] >= 20
    assert any(len(drug.colors) == 2 for drug in CATALOGUE.known)
    assert {drug.printed for drug in CATALOGUE.known} == {True, False}


def test_an_imprint_leads_with_letters_so_a_half_turn_gives_no_other_imprint():
    half_turn = str.maketrans("689HNSXZMW", "986HNSXZWM")
    imprints = {"".join(drug.parts) for drug in CATALOGUE.known + CATALOGUE.unknown}
    assert all(imprint[0].isalpha() for imprint in imprints)
    turned = {text[::-1].translate(half_turn) for text in imprints if set(text) <= set("689HNSXZMW")}
    assert not {
        text for text in turned & imprints if text not in {t for t in imprints if t[::-1].translate(half_turn) == t}
    }


def test_rows_have_the_agreed_keys():
    row = CATALOGUE.known[0].as_row(1.5)
    assert list(row) == ["kcode", "name", "manufacturer", "form", "weight", "shape", "colors", "imprint"]
    assert row["weight"] == 1.5
    assert {drug.form for drug in CATALOGUE.known} == {"tablet", "film-coated tablet", "capsule"}


def test_drugs_depend_on_the_seed_and_not_on_the_number_of_photos():
    assert plan_drugs(StandinConfig(real_sittings=1, size_px=64)) == CATALOGUE
    assert plan_drugs(StandinConfig(seed=1)) != CATALOGUE
    every = plan_drugs(StandinConfig(num_classes=300, num_unknown_classes=60, look_alike_share=1.0))
    assert len(every.pairs) == 150
    assert len({drug.parts for drug in every.known + every.unknown}) == 360


def test_find_knows_which_drugs_belong_to_a_domain():
    known, unknown = CATALOGUE.known[3], CATALOGUE.unknown[2]
    assert CATALOGUE.find("studio", known.kcode) is CATALOGUE.find("real", known.kcode) is known
    assert CATALOGUE.find("others", unknown.kcode) is unknown
    with pytest.raises(ValueError, match=rf"kcode is '{unknown.kcode}'; allowed in real: one of its 100 K-codes"):
        CATALOGUE.find("real", unknown.kcode)
