"""Training: one loop that reads top to bottom."""

from __future__ import annotations

import contextlib
import functools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mlanet.ambient import determinism, usual_torch
from mlanet.checkpoint import read_model_header, save_model
from mlanet.config import to_data, to_yaml
from mlanet.data.audit import audit, audit_pair
from mlanet.data.loader import Loader, ahead
from mlanet.data.samples import Sample
from mlanet.errors import CheckpointError, DivergedError
from mlanet.forecast import Forecast
from mlanet.graph import AtomicGraph, Labels, batch_graphs
from mlanet.interruption import Signals
from mlanet.kernels import use_kernels
from mlanet.limits import find_limits
from mlanet.metrics import Errors
from mlanet.potential import Potential
from mlanet.precision import MatmulCost, require_matmul, use_matmul
from mlanet.quantities import NAMES
from mlanet.training.config import TrainConfig
from mlanet.training.folder import MODEL, STATE, owned_by_first, require_free
from mlanet.training.optimizer import build_optimizer, kind_for
from mlanet.training.processes import Processes
from mlanet.training.report import Report, errors_text, machine, progress_bar
from mlanet.training.sets import fingerprint, load_split, require_known, told_of_replay, training_loader
from mlanet.training.start import starting_cutoff, starting_potential
from mlanet.training.state import Averaged, Origin, Progress, learning_rate, read_state, write_state
from mlanet.training.step import Gradient
from mlanet.training.tune import freeze, replayed

FINISHED = ("budget spent", "no progress")
"""Reasons for which a run ends by itself."""
LATE = 0.8
"""Fraction of the budget after which the energy weighs more."""


@dataclass(frozen=True)
class TrainResult:
    """What a run came to: its folder, the errors of the best average on the validation set, and why it stopped."""

    folder: Path
    model: Path
    steps: int
    reason: str
    best: dict[str, float]


@usual_torch()
def train(config: TrainConfig, *, resume: bool = False, progress: bool = True) -> TrainResult:
    """Train a potential and leave model, checkpoint, metrics, log and picture in the run's folder.

    SIGTERM: checkpoint after the running step, then stop (reason `terminated`). SIGUSR1: checkpoint and go on. Ctrl-C:
    the same as SIGTERM, then KeyboardInterrupt; a second one does not wait for the step.

    Args:
        config: everything.
        resume: go on from the folder's checkpoint; on a CPU as if never interrupted, to the bit.
        progress: draw a bar on a terminal.
    Raises:
        ConfigError: a folder with a run in it or with another owner, or a checkpoint of other settings.
        DataError: data that cannot be trained on.
        DivergedError: a loss or gradient that is not finite; the last checkpoint stays.
        CheckpointError: a folder that cannot be written.
    """
    processes = Processes(config.run.device)
    try:
        held = owned_by_first(Path(config.run.folder), processes)
        with determinism(config.run.deterministic), held, Signals() as signals:
            return _Run(config, processes, resume, progress).loop(signals)
    finally:
        processes.close()


@usual_torch()
def plan(config: TrainConfig) -> dict[str, object]:
    """Sizes of a run that is not started: data, batches, parameters, forecast memory of the largest batch."""
    training, validation = load_split(config.data, starting_cutoff(config))
    potential, remarks = starting_potential(config, training)
    old = replayed(config, potential)
    remarks += freeze(potential, config.freeze)
    law = Forecast(potential, training=True)
    loader = training_loader(config, training, old, potential, law)
    training, remarks = loader.samples, remarks + told_of_replay(loader)
    edges = [sample.graph.n_edges for sample in training]
    batches = loader.plan(0)
    largest = max(batches, key=lambda batch: sum(edges[index] for index in batch))
    needed = law.bytes(batch_graphs([training[index].graph for index in largest]).size())
    return {
        "training structures": len(training),
        "validation structures": len(validation),
        "training atoms": sum(sample.graph.n_atoms for sample in training),
        "training edges": sum(edges),
        "elements": len(potential.species),
        "parameters": sum(parameter.numel() for parameter in potential.parameters()),
        "optimizer": f"{kind_for(config.optimizer, potential)}, highest learning rate {config.optimizer.lr:g}",
        "batches per epoch": len(batches),
        "edges of the largest batch": sum(edges[index] for index in largest),
        "memory of its training step (forecast), MiB": round(needed / 2**20),
        "remarks": remarks,
    }


class _Run:
    """One run: its parts, and the loop over them."""

    def __init__(self, config: TrainConfig, processes: Processes, resume: bool, shown: bool) -> None:
        self.config, self.processes, self.shown = config, processes, shown and processes.first
        self.folder = Path(config.run.folder)
        require_free(self.folder, resume)
        self.training, self.validation = load_split(config.data, starting_cutoff(config))
        potential, remarks = starting_potential(config, self.training)
        old = replayed(config, potential)
        remarks += freeze(potential, config.freeze)
        require_known(self.validation, potential.species)
        execution = config.execution(processes.device)
        self.potential: Potential = execution.placed(potential)
        require_matmul(execution.matmul, self.potential.dtype, processes.device)
        self.parameters = [parameter for parameter in self.potential.parameters() if parameter.requires_grad]
        self.gradient = Gradient(self.potential, self.parameters, config.loss, processes, compiled=execution.compiled)
        self.averaged = Averaged(self.potential, config.optimizer.ema)
        self.optimizer = build_optimizer(config.optimizer, self.potential)
        self.loader = training_loader(config, self.training, old, self.potential)
        self.training = self.loader.samples
        remarks += told_of_replay(self.loader)
        self.report = Report(self.folder, writes=processes.first, tensorboard=config.run.tensorboard, shown=self.shown)
        self.origin = Origin(fingerprint(self.training, self.validation), processes.world)
        self.lengths: dict[int, int] = {}
        self.progress = Progress()
        if resume:
            self.progress = read_state(
                self.folder / STATE, config, self.potential, self.averaged, self.optimizer, self.origin
            )
        self._announce(remarks, resume)
        use_matmul(self.potential, execution.matmul, self._announce_cost)
        processes.wait()
        if resume:
            self._complete()
        self.clock = time.monotonic() - self.progress.seconds

    def loop(self, signals: Signals) -> TrainResult:
        """Epoch after epoch, batch after batch, until the budget is spent."""
        reason = self._end()
        with progress_bar(self.shown) as bar, signals.keyboard():
            task = bar.add_task("training", total=1.0)
            while not reason:
                begun = time.process_time()
                for batch in self._epoch():
                    stop, save = self._step(batch, signals)
                    self.progress.processor_seconds += time.process_time() - begun
                    bar.update(task, completed=self._fraction(), description=self._headline())
                    stopped = "interrupted" if signals.interrupted else "terminated"
                    reason = stopped if stop else "budget spent" if self._fraction() >= 1 else ""
                    if self._validation_is_due():
                        reason = reason if self._validate() else reason or "no progress"
                    elif save or reason or self.progress.step % self.config.run.checkpoint_every == 0:
                        self._save_state()
                    if reason:
                        break
                    begun = time.process_time()
            bar.update(task, completed=self._fraction(), description=self._headline(best=True))
        result = self._finish(reason)
        if reason == "interrupted":
            raise KeyboardInterrupt
        return result

    def _epoch(self) -> Iterator[tuple[AtomicGraph, Labels] | None]:
        """The rest of this epoch's batches, on the device; None where this process has none in the last step."""
        here, processes = self.progress, self.processes
        place = (processes.device, self.potential.dtype)
        loaded = self.loader.batches(here.epoch, here.batch, processes.rank, processes.world)
        batches = ahead((graph.to(*place), labels.to(*place)) for graph, labels in loaded)
        for _ in range(here.batch, self._length()):
            yield next(batches, None)

    def _length(self) -> int:
        """Steps of the running epoch; planning one takes time, so it is done once."""
        epoch = self.progress.epoch
        if epoch not in self.lengths:
            self.lengths = {epoch: self.loader.len_epoch(epoch, self.processes.world)}
        return self.lengths[epoch]

    def _end(self) -> str:
        """Why a run that is resumed has nothing left to do, or nothing."""
        limit = self.config.budget.early_stop
        if limit is not None and self.progress.since_best >= limit:
            return "no progress"
        return "budget spent" if self._fraction() >= 1 else ""

    def _step(self, batch: tuple[AtomicGraph, Labels] | None, signals: Signals) -> tuple[bool, bool]:
        """One optimiser step; returns whether any process was told to stop, or to save."""
        config, here = self.config, self.progress
        fraction = self._fraction()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(here, fraction, config.optimizer, config.schedule)
        late = config.loss.late_energy_factor if fraction >= LATE else 1.0
        share = self.processes.sum(self._backward(batch, late))
        seconds = time.monotonic() - self.clock if self.processes.first else 0.0
        told = torch.tensor([signals.take_stop(), seconds, signals.take_save()], dtype=torch.float64)
        stop, seconds, save = self.processes.sum_gradients(self.parameters, told).tolist()
        length = torch.nn.utils.clip_grad_norm_(self.parameters, config.optimizer.clip)
        value, norm = torch.stack([share, length.double()]).tolist()  # the one place where a step waits for a GPU
        if not math.isfinite(value) or not math.isfinite(norm):
            self._diverged()
        self.optimizer.step()
        here.step += 1
        here.batch += 1
        here.seconds = seconds
        here.loss_sum += value
        here.loss_steps += 1
        if here.batch >= self._length():
            here.epoch, here.batch = here.epoch + 1, 0
        self.averaged.update(self.potential, here.step)
        return bool(stop), bool(save)

    def _backward(self, batch: tuple[AtomicGraph, Labels] | None, late: float) -> Tensor:
        """Gradients of this process's share of the loss, and that share (), float64; 0 for an empty step."""
        self.optimizer.zero_grad(set_to_none=True)
        return self.gradient.nothing() if batch is None else self.gradient(*batch, late)

    def _fraction(self) -> float:
        """How much of the budget is spent, 0 to 1."""
        budget, here = self.config.budget, self.progress
        if budget.steps is not None:
            return here.step / budget.steps
        if budget.minutes is not None:
            return here.seconds / (60 * budget.minutes)
        assert budget.epochs is not None
        return (here.epoch + here.batch / self._length()) / budget.epochs

    def _validation_is_due(self) -> bool:
        """At the end of an epoch, or every so many steps; always at the end of the budget."""
        every = self.config.budget.validate_every
        due = self.progress.batch == 0 if every is None else self.progress.step % every == 0
        return due or self._fraction() >= 1

    def _validate(self) -> bool:
        """Errors of the averaged weights, files, and whether to go on."""
        here = self.progress
        errors = evaluate(self.averaged.potential, self.validation, self.config.budget.max_edges, self.processes)
        mae, rmse = errors.mae(), errors.rmse()
        row: dict[str, float] = {"step": here.step, "epoch": here.epoch, "minutes": here.seconds / 60}
        row["processor_minutes"] = here.processor_seconds / 60
        row |= {"lr": self.optimizer.param_groups[0]["lr"], "train_loss": here.loss_sum / max(1, here.loss_steps)}
        row |= {f"valid_{name}_mae": value for name, value in mae.items()}
        row |= {f"valid_{name}_rmse": value for name, value in rmse.items()}
        here.loss_sum, here.loss_steps = 0.0, 0
        score = self._score(row)
        here.rows.append(row)
        best = score < here.best or not mae
        if best:
            here.best, here.since_best, here.plateau_wait = score, 0, 0
        else:
            here.since_best += 1
            here.plateau_wait += 1
            if here.plateau_wait >= self.config.schedule.patience:
                here.plateau_factor, here.plateau_wait = here.plateau_factor * self.config.schedule.factor, 0
        self.report.metrics(here.rows)
        self.report.log("validation", **row)
        self.report.line(self._validation_line(row, best=here.since_best == 0))
        self._save_state()
        if best:  # after the checkpoint, which holds the same weights: killed in between, `_complete` makes up for it
            self._save_model(row)
        limit = self.config.budget.early_stop
        return limit is None or here.since_best < limit

    def _score(self, row: Mapping[str, float]) -> float:
        """What the best model is chosen by: its validation errors, weighed as in the loss."""
        return sum(getattr(self.config.loss, name) * row.get(f"valid_{name}_mae", 0.0) for name in NAMES)

    def _complete(self) -> None:
        """The model that a run was about to write when it was killed, from the averaged weights of the checkpoint."""
        here = self.progress
        if not (self.processes.first and here.rows and here.rows[-1]["step"] == here.step and here.since_best == 0):
            return
        with contextlib.suppress(CheckpointError):
            if read_model_header(self.folder / MODEL).card.get("steps") == here.step:
                return
        self._save_model(here.rows[-1])

    def _save_model(self, row: dict[str, float]) -> None:
        """The averaged weights with a card of where they come from."""
        if not self.processes.first:
            return
        errors = {name: value for name, value in row.items() if name.startswith("valid_")}
        data = {"train": list(self.config.data.train), "structures": len(self.training)}
        card = {"data": data, "steps": self.progress.step, "seed": self.config.run.seed, "validation": errors}
        save_model(self.averaged.potential, self.folder / MODEL, card)

    def _save_state(self) -> None:
        """The checkpoint, by the first process."""
        if self.processes.first:
            state = self.folder / STATE
            write_state(state, self.config, self.potential, self.averaged, self.optimizer, self.progress, self.origin)
        self.processes.wait()

    def _announce(self, remarks: list[str], resumed: bool) -> None:
        """Settings, machine, audit and fit, in the log and in files."""
        if not self.processes.first:
            return
        facts = {"settings": to_data(self.config), "processes": self.processes.world}
        facts |= {"optimizer": kind_for(self.config.optimizer, self.potential), "remarks": remarks}
        facts |= {"machine": machine(self.processes.device)}
        facts |= {"training": len(self.training), "validation": len(self.validation)}
        if not resumed:
            checked = audit(self.training)
            together = audit_pair(self.training, self.validation).warnings if self.validation else []
            more = [line for line in dict.fromkeys(together) if line not in checked.warnings]
            warnings = list(dict.fromkeys([*checked.warnings, *more]))
            facts["warnings"] = warnings
            self.report.write("audit.txt", checked.render())
            others = [line for line in remarks if line not in warnings]
            self.report.tell(checked.render(), *(f"warning: {line}" for line in more), *others)
        self.report.write("config.yaml", to_yaml(self.config))
        self.report.log("resumed" if resumed else "started", **facts)

    def _announce_cost(self, cost: MatmulCost) -> None:
        """What fewer digits cost in the first step."""
        self.report.tell(str(cost))
        self.report.log("matmul", text=str(cost))

    def _headline(self, best: bool = False) -> str:
        """Step and the latest validation errors, or those of the model that was saved."""
        here = self.progress
        if best and (row := self._best()):
            return f"best: step {row['step']}{errors_text(row)}"
        return f"step {here.step}" + (errors_text(here.rows[-1]) if here.rows else "")

    def _validation_line(self, row: Mapping[str, float], best: bool) -> str:
        """One validation for people, where there is no bar."""
        text = f"step {row['step']} · {self._fraction():.0%} · epoch {row['epoch']} · {row['minutes']:.1f} min"
        return f"{text} · loss {row['train_loss']:.4g}{errors_text(row)}{' · best so far' if best else ''}"

    def _best(self) -> dict[str, float]:
        """The validation of the model that was saved; empty where nothing was validated."""
        judged = [row for row in self.progress.rows if self._score(row) > 0]
        if not judged:
            return {}
        best = min(judged, key=self._score)
        return dict(best)

    def _diverged(self) -> None:
        """Stop, naming the structures of the step; the last checkpoint is left as it is."""
        here, world = self.progress, self.processes.world
        indices = [i for batch in self.loader.plan(here.epoch)[here.batch * world :][:world] for i in batch]
        frames = ", ".join(self.training[index].where for index in indices)
        self.report.log("diverged", step=here.step, frames=frames)
        raise DivergedError(
            f"step {here.step}: loss or gradient is not finite; structures of this step: {frames}. "
            "Try a smaller optimizer.lr or look at these frames; the last checkpoint is intact"
        )

    def _finish(self, reason: str) -> TrainResult:
        """Picture, last line of the log, and the result."""
        if not (self.folder / MODEL).exists() and self.processes.first:
            self._save_model({})
        if self.config.run.limits and reason in FINISHED and self.processes.first:
            known = (self.folder / MODEL, self.training, self.validation, self.processes.device)
            ready = functools.partial(use_kernels, kernels=self.config.run.kernels)
            self.report.tell(find_limits(*known, max_edges=self.config.budget.max_edges, again=False, ready=ready))
        self.report.picture(self.progress.rows)
        self.report.log("finished", reason=reason, step=self.progress.step)
        self.report.close()
        return TrainResult(self.folder, self.folder / MODEL, self.progress.step, reason, self._best())


def evaluate(potential: Potential, samples: list[Sample], max_edges: int, processes: Processes) -> Errors:
    """Errors over samples, shared out over the processes; the same on all of them."""
    errors = Errors()
    if not samples:
        return errors
    loader = Loader(samples, max_edges=max_edges, shuffle=False)
    potential.eval()
    for graph, labels in loader.batches(0, 0, processes.rank, processes.world):
        errors.add(potential(graph), labels, graph)
    errors.load_tensor(processes.sum(errors.tensor()))
    return errors
