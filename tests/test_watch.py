"""A watch on a real Trainer of transformers, and that a step waits for no device."""
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from mlfixes.doctor.watch import Watch


def trained(tmp_path, watch, lr=3e-3, bias=0., **settings):
    "What a tiny random network of transformers leaves after 24 steps; the classes are its first token."
    pytest.importorskip("accelerate", reason="Trainer needs it; install mlfixes[hub]")
    transformers = pytest.importorskip("transformers", reason="an extra; install mlfixes[hub]")
    transformers.set_seed(0)
    config = transformers.BertConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=16, max_position_embeddings=8, num_labels=4,
                                     hidden_dropout_prob=0., attention_probs_dropout_prob=0.)
    model = transformers.BertForSequenceClassification(config)
    with torch.no_grad(): model.classifier.bias[1] += bias
    ids = torch.randint(4, (512, 6), generator=torch.Generator().manual_seed(0))
    rows = [{"input_ids": row, "labels": row[0]} for row in ids]
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path), max_steps=24, per_device_train_batch_size=32, learning_rate=lr,
        lr_scheduler_type="constant", report_to=[], use_cpu=True, save_strategy="no", logging_steps=5,
        disable_tqdm=True, **settings)
    trainer = transformers.Trainer(model, args, train_dataset=rows, eval_dataset=rows[:32],
                                   callbacks=[watch.callback()])
    trainer.train()
    assert not model._forward_hooks
    return trainer


def watched(**settings): return Watch(first=6, on_finding=lambda step, finding: None, **settings)
def told(watch): return {(step, finding.code) for step, finding in watch.history}


def test_a_healthy_trainer_is_left_alone(tmp_path):
    watch = watched()
    trained(tmp_path, watch, lr=1e-2, eval_strategy="steps", eval_steps=6)
    assert not watch.history, watch.history
    assert watch.clock == 24 and len(watch.seen.inputs()[1]["logits"]) == 24 * 32
    assert len(watch.seen.validation.means) == 4


def test_a_trainer_without_a_rate_is_told(tmp_path):
    watch = watched()
    trained(tmp_path, watch, lr=0.)
    assert "HEAD04" in {code for _, code in told(watch)}, told(watch)


def test_one_class_for_all_is_told_and_stops_the_trainer(tmp_path):
    watch = watched()
    trained(tmp_path, watch, lr=1e-5, bias=20.)
    assert (12, "CLS01") in told(watch), told(watch)
    stopping = watched(stop=True)
    assert trained(tmp_path, stopping, lr=1e-5, bias=20.).state.global_step == 12


class Waits(TorchDispatchMode):
    "Counts what makes the host wait for a device: a number that is read, an array that is fetched."
    def __init__(self): super().__init__(); self.count = 0

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.count += "_local_scalar_dense" in str(op) or "_to_copy" in str(op) or "equal" in str(op)
        return op(*args, **(kwargs or {}))


def test_a_step_without_a_look_waits_for_no_device():
    watch, labels = watched(), torch.arange(32) % 4
    watch.first = watch._regular = 100
    def show(): watch(loss=torch.rand(()), logits=torch.rand(32, 4), labels=labels, codebook=torch.rand(8, 2))
    with Waits() as waits:
        for _ in range(63): show()
        assert waits.count == 0
        show()                                  # losses of 64 steps are read together
        assert waits.count == 64
    with Waits() as waits: watch.look()
    assert watch.diagnosis.findings
