"""PairedComparison comparisons: against SciPy, at the edges, and by simulation."""

import random
from statistics import fmean

import numpy as np
import pytest

from ft_tools.evaluation.results import Settings, compare_scores
from ft_tools.metrics.means import (
    clustered_error,
    compare,
    compare_means,
    mean_interval,
    sign_change_test,
    tango_interval,
)
from ft_tools.metrics.scores import macro_f1
from ft_tools.metrics.table import METRICS, Metric
from ft_tools.metrics.verdicts import ALPHA, normal_quantile, verdict


def yes_no(before, after, **more):
    return compare(before, after, "yes_no", **more)


def judged(paired, smallest_effect=0.1, higher_is_better=True):
    return verdict(
        paired, paired.p_value, higher_is_better=higher_is_better, smallest_effect=smallest_effect
    )


def test_sign_changes_are_scipys_permutation_test():
    stats = pytest.importorskip("scipy.stats")
    differences = [0.3, -0.1, 0.25, 0.4, -0.05, 0.2, 0.15, 0.0, 0.35]
    expected = stats.permutation_test(
        (differences,), sum, permutation_type="samples", n_resamples=2**9
    ).pvalue
    assert sign_change_test(np.array(differences), np.random.default_rng(0), 1000) == pytest.approx(
        expected
    )
    drawn = [random.Random(i).gauss(0.1, 0.3) for i in range(40)]
    by_t = stats.ttest_1samp(drawn, 0).pvalue
    assert sign_change_test(np.array(drawn), np.random.default_rng(0), 20_000) == pytest.approx(
        by_t, abs=0.02
    )


def test_tango_solves_its_own_equation():
    """At each limit the score statistic is z, here written out from the paper anew."""
    b, c, n = 12, 5, 44
    z = normal_quantile(0.975)
    for delta, sign in zip(tango_interval(b, c, n), (1, -1), strict=True):
        linear = -b - c + (2 * n - b + c) * delta
        q = ((linear**2 + 8 * n * c * delta * (1 - delta)) ** 0.5 - linear) / (4 * n)
        statistic = (b - c - n * delta) / (n * (2 * q + delta * (1 - delta))) ** 0.5
        assert statistic == pytest.approx(sign * z, abs=1e-6)


@pytest.mark.parametrize(
    ("before", "after", "interval", "verdict"),
    [
        ([0.0] * 60, [1.0] * 60, "yes_no", "improved"),
        ([1.0] * 60, [0.0] * 60, "yes_no", "regressed"),
        ([0.0, 1.0] * 30, [0.0, 1.0] * 30, "yes_no", "no_detectable_change"),
        ([0.0, 0.7] * 30, [0.0, 0.7] * 30, "mean", "no_detectable_change"),
        ([0.3] * 10, [0.3] * 10, "mean", "underpowered"),
        *(([a], [b], "mean", "underpowered") for a, b in ((0.0, 1.0), (0.2, 0.9), (0.5, 0.5))),
    ],
)
def test_a_verdict_says_no_more_than_its_interval(before, after, interval, verdict):
    paired = compare(before, after, interval)
    assert judged(paired) == verdict
    assert paired.ci_low < paired.ci_high
    assert paired.ci_low <= paired.difference <= paired.ci_high
    if before == after:
        assert (paired.difference, paired.p_value) == (0.0, 1.0)


def test_the_error_of_clusters_is_the_error_of_a_ratio_written_out():
    """Three groups of 1, 2 and 3 examples: sqrt(G / (G - 1) sum of squared residuals) / n."""
    sums, sizes = [0.5, 0.2, 2.1], [1, 2, 3]
    mean = 2.8 / 6
    residuals = [0.5 - mean, 0.2 - 2 * mean, 2.1 - 3 * mean]
    expected = (3 / 2 * sum(r * r for r in residuals)) ** 0.5 / 6
    assert clustered_error(np.array(sums), np.array(sizes)) == pytest.approx(expected)
    assert clustered_error(np.array([1.0, 2.0, 4.0]), np.ones(3)) == pytest.approx(0.8819171)


# Coverage of 2,000 simulated experiments has a standard error of 0.5 percentage points.
CONTINUOUS = {
    "symmetric": lambda r: r.gauss(0, 0.2),
    "bounded": lambda r: r.betavariate(2, 5) - r.betavariate(2, 5),
    "mostly zero": lambda r: r.gauss(0, 0.3) if r.random() < 0.3 else 0.0,
    "rare gains": lambda r: r.expovariate(5) - 0.2,
    "rare losses": lambda r: 0.2 - r.expovariate(5),
    "skewed score": lambda r: r.betavariate(1, 5) - 1 / 6,
}


def continuous(chance, seed, name, n):
    after = [CONTINUOUS[name](chance) for _ in range(n)]
    return compare_means(after, seed=seed, resamples=150)


def of_macro_f1(chance, seed, n, sizes):
    """Compare two models that are right equally often; a class may be rare."""
    wanted = chance.choices("abc", sizes, k=n)
    before, after = (
        macro_f1([w if chance.random() < 0.7 else chance.choice("abc") for w in wanted], wanted)
        for _ in range(2)
    )
    differences = [b - a for a, b in zip(before, after, strict=True)]
    return compare_means(differences, seed=seed, resamples=150)


def in_groups(chance, seed, named):
    """Compare on twelve customers with five examples each, whose gains go up and down together."""
    levels = [chance.gauss(0, 0.15) for _ in range(12)]
    after = [level + chance.gauss(0, 0.15) for level in levels for _ in range(5)]
    groups = [str(i // 5) for i in range(60)] if named else None
    return compare_means(after, groups, seed=seed, resamples=100)


def binary(chance, _, n, up, down):
    rolls = [chance.random() for _ in range(n)]
    before = [float(up <= r < up + down or r > 0.7) for r in rolls]
    return yes_no(before, [float(r < up or r > 0.7) for r in rolls])


def simulated(trial, *arguments, truth=0.0, claim="improved"):
    """Return how often the interval of 2,000 trials covers the truth, and how often one claims."""
    chance = random.Random(7)
    found = [trial(chance, seed, *arguments) for seed in range(2000)]
    covered = sum(one.ci_low <= truth <= one.ci_high for one in found)
    return covered / 2000, sum(judged(one) == claim for one in found) / 2000


@pytest.mark.parametrize(
    ("trial", "arguments"),
    [
        *((continuous, (name, 30)) for name in ("symmetric", "bounded", "mostly zero")),
        *((continuous, (name, 10)) for name in ("symmetric", "rare gains", "skewed score")),
        *((continuous, (name, 20)) for name in ("rare gains", "rare losses")),
        (of_macro_f1, (60, (5, 3, 2))),
        (of_macro_f1, (100, (16, 3, 1))),
        (in_groups, (True,)),
        *((binary, case) for case in ((40, 0.1, 0.1), (60, 0.3, 0.05), (200, 0.02, 0.2))),
    ],
)
def test_intervals_cover_and_false_claims_are_rare(trial, arguments):
    truth, claim = 0.0, "improved"
    if trial is binary:
        _, up, down = arguments
        truth, claim = up - down, "regressed" if up > down else "improved"
    covered, claimed = simulated(trial, *arguments, truth=truth, claim=claim)
    assert 0.93 <= covered <= 0.98
    assert claimed <= 0.05


def test_groups_of_examples_that_are_not_named_are_not_covered():
    covered, improved = simulated(in_groups, False)
    assert covered < 0.8
    assert improved > 0.07


def test_the_kind_of_an_interval_is_declared_and_not_guessed_from_the_values():
    """Ratios that are all 1 are not yes/no: Wilson's interval would be too narrow for them."""
    assert mean_interval([1.0] * 40, "mean")[0] < mean_interval([1.0] * 40, "yes_no")[0]
    with pytest.raises(ValueError, match="yes/no"):
        compare([0.0, 0.5], [0.3, 1.0], "yes_no")


def adaptive_choice(chance, looks, n=100):
    """Change the best model after each look; return what it is right in, here and in truth."""
    best, truth = (chance.random(n) < 0.7).astype(float), 0.7
    for _ in range(looks - 1):
        # Answers are kept but for a third, which are new ones of a model that is no better.
        is_new = chance.random(n) < 1 / 3
        other = np.where(is_new, chance.random(n) < 0.7, best)
        if other.mean() > best.mean():
            best = other
    return best, truth


@pytest.mark.parametrize("looks", [2, 4, 10])
def test_after_several_looks_the_widened_interval_of_the_best_covers_and_the_usual_one_does_not(
    looks,
):
    """The best of several models that are equally good, each made from the best one before it."""
    chance, rates = np.random.default_rng(looks), []
    usual = Settings(0, 0.1)
    widened = Settings(0, 0.1, looks=looks)
    covered = {usual: 0, widened: 0}
    for _ in range(2000):
        best, truth = adaptive_choice(chance, looks)
        rates.append(best.mean())
        for settings in covered:
            score = settings.score(METRICS["exact_match"], list(best))
            covered[settings] += score.ci_low <= truth <= score.ci_high
    assert covered[widened] / 2000 >= 0.95
    assert covered[usual] / 2000 < 0.95
    if looks == 10:
        assert fmean(rates) > 0.76
        assert covered[usual] / 2000 < 0.7


@pytest.mark.parametrize(
    ("groups", "size", "a", "b"), [(16, 4, 8, 1), (12, 8, 20, 5), (8, 10, 4, 2)]
)
def test_the_interval_of_a_rate_covers_where_groups_differ_and_are_named(groups, size, a, b):
    chance = np.random.default_rng(groups)
    clusters = [str(i // size) for i in range(groups * size)]
    covered = {True: 0, False: 0}
    for _ in range(2000):
        rates = np.repeat(chance.beta(a, b, groups), size)
        values = list((chance.random(groups * size) < rates).astype(float))
        for named in covered:
            low, high = mean_interval(values, "yes_no", clusters=clusters if named else None)
            covered[named] += low <= a / (a + b) <= high
    assert 0.94 <= covered[True] / 2000 <= 0.985
    assert covered[False] < covered[True]


def test_an_interval_that_excludes_zero_is_never_underpowered():
    """Six gains and no loss of 60: shown alone, and not after the correction for two measures."""
    paired = yes_no([0.0] * 60, [1.0] * 6 + [0.0] * 54)
    assert paired.ci_low > 0
    assert paired.minimum_detectable_effect > 0.1
    for p, found in ((0.01, "improved"), (0.06, "not_confirmed"), (1.0, "not_confirmed")):
        assert verdict(paired, p, higher_is_better=True, smallest_effect=0.1) == found
    assert verdict(paired, 0.01, higher_is_better=None, smallest_effect=0.1) == "changed"


def test_of_seven_systems_that_are_as_good_as_the_reference_none_is_called_improved():
    """Family-wise: in at most 5% of evaluations is any of seven equal systems called better."""
    chance = random.Random(17)
    false_claims = uncorrected = 0
    trials = 1000
    for _ in range(trials):
        before = [float(chance.random() < 0.8) for _ in range(110)]
        systems = {
            name: [v if chance.random() < 0.6 else float(chance.random() < 0.8) for v in before]
            for name in "abcdefg"
        }
        scores = {"reference": before, **systems}
        rows = compare_scores(
            {name: {"exact_match": values} for name, values in scores.items()}, Settings(0, 0.1)
        )
        false_claims += any(row.verdict == "improved" for row in rows)
        uncorrected += any(row.p_value < ALPHA and row.ci_low > 0 for row in rows)
    assert false_claims / trials <= 0.05
    assert uncorrected > 1.5 * false_claims


def test_a_metric_of_which_neither_direction_is_better_is_compared_and_claims_no_gain():
    row = Metric(
        "num_words", "words of the output", "mean", higher_is_better=None, is_fraction=False
    )
    scores = {"a": {"num_words": [5.0, 7.0] * 30}, "b": {"num_words": [9.0, 12.0] * 30}}
    (found,) = compare_scores(scores, Settings(0, 0.1), {"num_words": row})
    assert (found.verdict, found.higher_is_better, found.num_better) == ("changed", None, None)
    assert found.difference == 4.5
