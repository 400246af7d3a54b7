import pytest
import torch

from projects.pillsnap.mixing import Mixing
from shared.errors import ConfigError


def mixing(**changes):
    values = {"mixup_alpha": 0.2, "cutmix_alpha": 1.0, "cutmix_area": (0.1, 1.0), "probability": 1.0} | changes
    return Mixing(**values)


def marked(size=8, side=32):
    """Image i is i everywhere, so a pixel says which images it is made of."""
    return torch.arange(size, dtype=torch.float32)[:, None, None, None].expand(size, 1, side, side).clone()


def test_mixup_shares_are_those_of_the_pixels():
    image = marked()
    mixed, shares = mixing(cutmix_alpha=0.0)(image)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(8))
    torch.testing.assert_close(mixed[:, 0, 0, 0], shares @ torch.arange(8.0))


def test_cutmix_shares_are_those_of_the_area():
    for seed in range(20):
        torch.manual_seed(seed)
        mixed, shares = mixing(mixup_alpha=0.0)(marked())
        assert shares is not None
        for row, share in zip(mixed, shares, strict=True):
            for source in share.nonzero()[:, 0].tolist():
                assert (row == source).float().mean().item() == pytest.approx(share[source].item(), abs=1e-5)


def test_cutmix_keeps_to_the_area_it_is_given():
    pasted = []
    for seed in range(200):
        torch.manual_seed(seed)
        _, shares = mixing(mixup_alpha=0.0, cutmix_area=(0.3, 0.5))(marked())
        pasted.append(1 - shares.diagonal()[0].item())
    # A box that sticks out over the border pastes less than was drawn, never more.
    assert max(pasted) <= 0.5 + 2 / 32
    assert min(pasted) < 0.3


def test_both_ways_occur_and_the_rest_stays_as_it_is():
    kinds = {"none": 0, "cutmix": 0, "mixup": 0}
    mix = mixing(probability=0.5)
    for seed in range(200):
        torch.manual_seed(seed)
        image = marked()
        mixed, shares = mix(image)
        if shares is None:
            assert mixed is image
            kinds["none"] += 1
        else:
            whole = bool((mixed == mixed.round()).all())
            kinds["cutmix" if whole else "mixup"] += 1
    assert 70 <= kinds["none"] <= 130
    assert min(kinds["cutmix"], kinds["mixup"]) >= 25


def test_equal_seeds_mix_equally():
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        results.append(mixing()(marked()))
    torch.testing.assert_close(results[0], results[1])


def test_nothing_to_mix():
    one = marked(1)
    assert mixing()(one) == (one, None)
    image = marked()
    assert mixing(mixup_alpha=0.0, cutmix_alpha=0.0)(image)[1] is None


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"mixup_alpha": -1.0}, "mixup_alpha -1.0 and cutmix_alpha 1.0; allowed: 0 and above"),
        ({"probability": 1.5}, "probability is 1.5; allowed are 0 to 1"),
        ({"cutmix_area": (0.5, 0.2)}, "it must be .smallest, largest. in 0..1"),
    ],
)
def test_values_out_of_range_are_refused(change, sentence):
    with pytest.raises(ConfigError, match=sentence):
        mixing(**change)


def test_an_area_that_is_never_drawn_is_said():
    torch.manual_seed(0)
    with pytest.raises(ConfigError, match="hardly ever drawn"):
        mixing(mixup_alpha=0.0, cutmix_alpha=1.0, cutmix_area=(0.5, 0.5000001))(marked())
