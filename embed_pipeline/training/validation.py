"""Measuring the model under training on the validation queries; the best step is kept, a long drought ends it.

The processes encode a share each and hold the first one's value, so that they decide alike. Imported by the worker
process alone, therefore torch stands at the top.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedTokenizerBase, TrainerControl, TrainerState, TrainingArguments

from embed_pipeline.encoding.encoder import EncoderSettings, Role
from embed_pipeline.encoding.heads import pool
from embed_pipeline.encoding.tokens import batches_of
from embed_pipeline.training.collator import pad_tokens
from embed_pipeline.training.loss import process_number, processes
from embed_pipeline.training.progress import Report
from embed_pipeline.training.settings import ValidationSettings
from embed_pipeline.training.validation_task import ValidationTask, measure_ranking
from embed_pipeline.training.watchdog import Keeper, check_validation

_BATCH_TOKENS = 8192
_QUERIES_AT_ONCE = 256
_VALUES_FILE, _WEIGHTS_FILE = "validation.json", "best.safetensors"


class NetworkMeasure:
    """The mean of a measure over a task's queries, for a network as it is now; takes nothing from chance.

    Every process must call it: each encodes its share of the batches, none waits long for another. The batches are
    those of one process, and so are the vectors.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        encoder: EncoderSettings,
        task: ValidationTask,
        measure: str,
        batch_tokens: int = _BATCH_TOKENS,
    ) -> None:
        self.network, self.encoder, self.task, self.measure = network, encoder, task, measure
        self.batch_tokens = batch_tokens
        self.padding: Any = tokenizer.pad_token_id or 0
        self.tokens = {"query": self._tokenise(tokenizer, "query", task.queries)}
        self.tokens["passage"] = self._tokenise(tokenizer, "passage", task.texts)

    def __call__(self) -> float:
        modes = {module: module.training for module in self.network.modules()}
        self.network.eval()
        try:
            with torch.no_grad():
                return _of_first(self._measure(), next(self.network.parameters()).device)
        finally:
            for module, trains in modes.items():  # one by one: a part may be in evaluation for good
                module.training = trains

    def _measure(self) -> float:
        queries, passages = self._encode("query"), self._encode("passage")
        depth = min(int(self.measure.partition("@")[2]), len(passages))
        total = 0.0
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            scores = queries[start : start + _QUERIES_AT_ONCE] @ passages.T
            # A stable order: of equal scores the earlier passage comes first, on every machine.
            ranked = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :depth].tolist()
            total += sum(
                measure_ranking(self.measure, row, self.task.relevant[start + at]) for at, row in enumerate(ranked)
            )
        return total / len(queries)

    def _tokenise(self, tokenizer: PreTrainedTokenizerBase, role: Role, texts: Sequence[str]) -> list[list[int]]:
        formatted = [self.encoder.format_text(role, text) for text in texts]
        found: Any = tokenizer(formatted, truncation=True, max_length=self.encoder.max_length(role))
        return found["input_ids"]

    def _encode(self, role: Role) -> Tensor:
        """float32 (texts, dimension), the whole of it in every process."""
        token_ids = self.tokens[role]
        config: Any = self.network.config
        device = next(self.network.parameters()).device
        vectors = torch.zeros((len(token_ids), config.hidden_size), device=device)
        batches = batches_of([len(ids) for ids in token_ids], self.batch_tokens)
        for batch in list(batches)[process_number() :: processes()]:
            sequences = [token_ids[row] for row in batch]
            padded = pad_tokens(sequences, self.padding, max(map(len, sequences)))
            ids, shown = (part.to(device) for part in padded)
            hidden = self.network(input_ids=ids, attention_mask=shown).last_hidden_state.float()
            vectors[list(batch)] = pool(hidden, shown, self.encoder.pooling or "")
        if processes() > 1:
            torch.distributed.all_reduce(vectors)  # a row is zero but in the process that encoded it
        return torch.nn.functional.normalize(vectors, dim=-1) if self.encoder.normalize else vectors


def _of_first(value: float, device: torch.device) -> float:
    """The first process's value, in every process."""
    if processes() == 1:
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    torch.distributed.broadcast(shared, src=0)
    return shared.item()


class Validator(Keeper):
    """Measures before the first step, every so many steps and at the last one; keeps the weights of the best step."""

    def __init__(
        self,
        network: torch.nn.Module,
        measure: NetworkMeasure,
        settings: ValidationSettings,
        *,
        interval: int,
        values: dict[int, float],
        report: Report,
    ) -> None:
        self.network, self.measure, self.settings = network, measure, settings
        self.interval, self.report = interval, report
        self.base: float | None = None
        self.values = values
        self.best: dict[str, Tensor] = {}
        self.stopped = False

    @property
    def best_step(self) -> int | None:
        """The step of the highest value, of equal ones the earliest."""
        return max(self.values, key=lambda step: (self.values[step], -step)) if self.values else None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if self.base is None:
            self.base = self.measure()
            self.report(f"validation {self.settings.measure} of the base: {self.base:.4f}")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        step = state.global_step
        if step % self.interval and step < state.max_steps:
            return
        value = self.values[step] = self.measure()
        control.should_log = True  # so that the log has a line for this step
        if self.best_step == step and state.is_world_process_zero:
            self.best = {name: weight.detach().cpu().clone() for name, weight in self.network.state_dict().items()}
        base, values = self.base or 0.0, list(self.values.values())
        self.report(f"validation {self.settings.measure} at step {step}: {value:.4f} (base {base:.4f})")
        check_validation(values, base, self.settings.measure, self.settings.stop_below_base)
        since = sum(later > (self.best_step or 0) for later in self.values)
        if self.settings.patience is not None and since >= self.settings.patience:
            self.stopped = control.should_training_stop = True
            self.report(f"stopped at step {step}: no better validation for {since} evaluations")

    def apply_best(self) -> None:
        """Give the network the weights of the best step (in the first process, which has them)."""
        if self.best:
            self.network.load_state_dict(self.best)

    def keep(self, folder: Path) -> None:
        """See Keeper."""
        content = {"base": self.base, "values": list(self.values.items()), "stopped": self.stopped}
        (folder / _VALUES_FILE).write_text(json.dumps(content), encoding="utf-8")
        if self.best:
            # One tensor may stand under two names; the copies of a clone do not share memory.
            save_file({name: weight.contiguous() for name, weight in self.best.items()}, folder / _WEIGHTS_FILE)

    def restore(self, folder: Path, *, first: bool) -> None:
        """See Keeper."""
        content = json.loads((folder / _VALUES_FILE).read_text(encoding="utf-8"))
        self.base, self.stopped = content["base"], content["stopped"]
        self.values.clear()  # the log reads the same dictionary
        self.values.update((int(step), float(value)) for step, value in content["values"])
        if first and (folder / _WEIGHTS_FILE).is_file():
            self.best = load_file(folder / _WEIGHTS_FILE)
