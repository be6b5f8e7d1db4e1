"""A micro-batch that was halved stays so, and the effective batch never changes."""

from types import SimpleNamespace

from ft_tools.runs.launchers.placement import Place
from ft_tools.training import micro_batches
from ft_tools.training.micro_batches import MicroBatch, advice, of_run, smaller

PLAN = SimpleNamespace(
    training={"per_device_train_batch_size": 8, "gradient_accumulation_steps": 2}, place=Place()
)


def test_every_halving_keeps_the_effective_batch_and_ends_at_one():
    for size in range(1, 65):
        batch, sizes = MicroBatch(size=size, accumulation=3), []
        while (less := smaller(batch)) is not None:
            assert less.effective == batch.effective
            assert less.size <= batch.size // 2 or less.size == 1
            batch = less
            sizes.append(less.size)
        assert batch.size == 1
        assert sizes == sorted(sizes, reverse=True)


def test_what_was_kept_is_what_the_next_attempt_starts_with(tmp_path):
    assert of_run(tmp_path, PLAN) == MicroBatch(size=8, accumulation=2)
    micro_batches.keep(tmp_path, MicroBatch(size=2, accumulation=8))
    assert of_run(tmp_path, PLAN) == MicroBatch(size=2, accumulation=8)


def test_a_damaged_or_foreign_file_is_not_believed(tmp_path):
    for text in ("{", '{"size": 0, "accumulation": 16}', '{"size": 4, "accumulation": 1}', "[]"):
        (tmp_path / micro_batches.FILE).write_text(text)
        assert of_run(tmp_path, PLAN) == MicroBatch(size=8, accumulation=2)


def test_the_advice_names_the_next_smaller_plan():
    told = advice(MicroBatch(size=4, accumulation=4))
    assert "micro-batches of 2 and 8 accumulation steps" in told
    assert "shorter max_length" in advice(MicroBatch(size=1, accumulation=16))
