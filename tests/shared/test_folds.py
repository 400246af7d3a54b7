import pytest

from shared.errors import LeakError
from shared.folds import FOLDS, PURPOSES, require_purpose

# The table of the contracts, written out once more.
ALLOWED = [
    ("train", "fit"), ("train", "batch_norm"), ("val", "validate"), ("val", "select"), ("accept", "accept"),
    ("accept", "threshold"), ("accept", "stack"), ("calibrate", "calibrate"), ("test", "test"),
]  # fmt: skip
ALL = [(fold, purpose) for fold in FOLDS for purpose in {purpose for _, purpose in ALLOWED}]


@pytest.mark.parametrize(("fold", "purpose"), sorted(ALL))
def test_a_fold_serves_its_purposes_and_no_other(fold, purpose):
    if (fold, purpose) in ALLOWED:
        require_purpose(fold, purpose)
    else:
        with pytest.raises(LeakError, match=f"fold '{fold}' may not be used for '{purpose}'"):
            require_purpose(fold, purpose)


def test_the_error_says_what_is_allowed_and_where_the_purpose_belongs():
    with pytest.raises(LeakError, match=r"may serve accept, stack, threshold only; 'calibrate' is what fold"):
        require_purpose("accept", "calibrate")


@pytest.mark.parametrize("fold", ["dev", ""])
def test_an_unknown_fold_or_purpose_is_refused(fold):
    with pytest.raises(LeakError, match="the folds are train, val, accept, calibrate, test"):
        require_purpose(fold, "fit")
    with pytest.raises(LeakError, match=r"'peek'; it may serve test only\."):
        require_purpose("test", "peek")


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        PURPOSES["test"] = frozenset({"fit"})
