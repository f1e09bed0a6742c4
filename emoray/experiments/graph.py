"""Runs of a table as a graph: what several need is one run, known before it has run.

stages of an arm -> for an evaluation, a protocol, a fold and a seed: the last stage's run
                 -> its starts, each the end of another stage's run, and so on down
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from emoray.corpus.catalog import Catalog, Segments
from emoray.experiments.arms import Arm, ArmStage, recipes_of, streams_of
from emoray.methods.base import Stage
from emoray.results.paper import Evaluation
from emoray.runtime.config import digest, set_dotted, to_dict
from emoray.runtime.storage import Storage, join, last_part, parent
from emoray.training import checkpoint
from emoray.training.account import Account
from emoray.training.data import RunData, data_of
from emoray.training.execute import (
    Decided,
    account_at,
    account_of,
    code_of,
    decided_by,
    identity_of,
)
from emoray.training.run import PUBLISHED, Origin, Run


@dataclass(frozen=True)
class At:
    """Where a run of a table stands."""

    evaluation: Evaluation
    protocol: str
    fold: str
    seed: int


@dataclass(frozen=True)
class _End:
    """The end of a run that others may start from, and what its weights will have seen."""

    origin: Origin
    account: Account


@dataclass
class Graph:
    """Makes runs; asked twice for the same one, it gives the one it made.

    Args:
        catalog: of the corpus.
        storage: folder or URI of the runs.
        pretraining: datasets that stages over the corpus are trained on, those of them that the
            corpus has with the stage's streams.
        seed_of: seed of a run -> seed of the stages over the corpus that it descends from.
    """

    catalog: Catalog
    storage: str
    pretraining: Sequence[str] = ()
    seed_of: Callable[[int], int] = lambda seed: seed
    _ends: dict[str, _End] = field(default_factory=dict)
    """By the run's key."""
    _codes: dict[tuple[str, tuple[str, ...], Decided], str] = field(default_factory=dict)
    _named: dict[tuple[str, str, str], Mapping[str, Any] | None] = field(default_factory=dict)

    def run(self, arm: Arm, at: At, beside: Sequence[Arm] = ()) -> Run:
        """The scored run of an arm's last stage.

        Args:
            arm: whose.
            at: where it stands.
            beside: arms that it is compared with, on the same segments.

        Raises:
            ValueError: the data have no such fold, or nothing to train a stage on.
            DataError: a build is missing.
        """
        *before, last = arm.stages
        dataset = self.dataset([arm, *beside], at.evaluation)
        ends: dict[str, _End] = {}
        for stage in before:
            run = self._run(stage, at, dataset, _starts(stage, ends), is_last=False)
            opened = [dataset] if run.fold else self._over_corpus(stage.kind)
            ends[stage.name] = self._end(run, self._accounts(stage, ends), opened)
        return self._run(last, at, dataset, _starts(last, ends), is_last=True)

    def dataset(self, arms: Sequence[Arm], evaluation: Evaluation) -> Segments:
        """The segments that all stages of arms on a fold share, whatever each reads of them.

        Raises:
            ValueError: the stages want several recipes for one stream.
            DataError: a build is missing.
        """
        return self.catalog.dataset(evaluation.dataset, streams_of(arms), recipes_of(arms))

    def over_corpus(self, stage: ArmStage, seed: int) -> Run:
        """The run of a stage over the corpus that starts from nothing.

        Raises:
            ValueError: the corpus holds nothing to train it on.
        """
        run = self._corpus_run(stage, seed, {})
        end = self._end(run, [], self._over_corpus(stage.kind))
        assert end.origin.run is not None  # it is the one just made
        return end.origin.run

    # One run --------------------------------------------------------------------------------------

    def _run(
        self,
        stage: ArmStage,
        at: At,
        dataset: Segments,
        starts: Mapping[str, Origin],
        *,
        is_last: bool,
    ) -> Run:
        kind = stage.kind
        if kind.scope == "corpus":
            return self._corpus_run(stage, self.seed_of(at.seed), starts)
        is_scored = is_last or kind.target == "label"
        return self._coded(
            Run(
                method=stage.method,
                stage=stage.stage,
                config=to_dict(set_dotted(stage.config, "seed", at.seed)),
                corpus=self.catalog.location,
                builds=dataset.builds,
                target=at.evaluation.target.to_plain(),
                protocol=at.protocol,
                fold=at.fold,
                chosen_by=at.evaluation.chosen_by if is_scored else "",
                starts={**starts, **self._published(stage)},
            )
        )

    def _corpus_run(self, stage: ArmStage, seed: int, starts: Mapping[str, Origin]) -> Run:
        return self._coded(
            Run(
                method=stage.method,
                stage=stage.stage,
                config=to_dict(set_dotted(stage.config, "seed", seed)),
                corpus=self.catalog.location,
                builds={
                    f: d for one in self._over_corpus(stage.kind) for f, d in one.builds.items()
                },
                starts={**starts, **self._published(stage)},
            )
        )

    def _coded(self, run: Run) -> Run:
        at = (run.method, run.datasets, decided_by(run))
        if at not in self._codes:
            self._codes[at] = code_of(*at)
        return replace(run, code=self._codes[at])

    def _over_corpus(self, kind: type[Stage]) -> list[Segments]:
        """What a stage over the corpus is trained on."""
        return [self._dataset(kind, name) for name in self._names(kind)]

    def _names(self, kind: type[Stage]) -> tuple[str, ...]:
        """Datasets that a stage over the corpus is trained on."""
        found = self.catalog.having(kind.streams, self.pretraining)
        if kind.target == "va":
            found = tuple(name for name in found if self._dataset(kind, name).has_coordinates)
        if not found:
            needed = f"{' and '.join(kind.streams)} of {', '.join(self.pretraining)}"
            needed += " with valence and arousal" * (kind.target == "va")
            raise ValueError(f"need datasets to pretrain on ({needed}), got {self.catalog.words}")
        return found

    def _dataset(self, kind: type[Stage], name: str) -> Segments:
        return self.catalog.dataset(name, kind.streams, kind.recipes)

    # What it starts from --------------------------------------------------------------------------

    def _accounts(self, stage: ArmStage, ends: Mapping[str, _End]) -> list[Account]:
        """What the starts of a stage have seen."""
        return [
            account_at(start) if isinstance(start, Origin) else ends[start].account
            for start in stage.starts.values()
        ]

    def _published(self, stage: ArmStage) -> dict[str, Origin]:
        """Weights that the settings name, as a start; looked at once, they may be large."""
        at = (stage.method, stage.stage, digest(stage.config))
        if at not in self._named:
            self._named[at] = stage.kind.published_weights(stage.config)
        named = self._named[at]
        return {} if named is None else {PUBLISHED: Origin(named)}

    def _end(self, run: Run, before: Sequence[Account], opened: Sequence[Segments]) -> _End:
        """The end of a run: after which step it is, and what its weights will have seen.

        Args:
            run: over the corpus or on a fold.
            before: what its starts have seen.
            opened: the datasets that it reads.
        """
        if run.key in self._ends:
            return self._ends[run.key]
        found = data_of(run, opened)
        account = account_of(found, before, with_signals=False)
        step = _n_steps(found)
        if not run.fold:  # a person who looks at the storage knows it again
            run = replace(run, name=f"{run.method}-{run.stage}-{run.key[:12]}")
        location = join(self.storage, run.folder_name, checkpoint.name_of(step))
        origin = Origin(identity_of(run.key, step, account), location, run.lineage(), run)
        self._ends[run.key] = _End(origin, account)
        return self._ends[run.key]


def _starts(stage: ArmStage, ends: Mapping[str, _End]) -> dict[str, Origin]:
    return {
        role: start if isinstance(start, Origin) else ends[start].origin
        for role, start in stage.starts.items()
    }


def _n_steps(found: RunData) -> int:
    """Steps of the whole run; what a stage is built from does not change them."""
    stage = found.stage()
    return stage.epochs * found.plan(stage).n_steps


# Ends ---------------------------------------------------------------------------------------------


def is_ended(origin: Origin) -> bool:
    """Whether the weights are there."""
    folder = Storage.at(parent(origin.location))
    return checkpoint.latest_whole(folder) == last_part(origin.location)


def still_needed(runs: Iterable[Run]) -> dict[str, Run]:
    """These runs, and those that they descend from of which no weights are there yet.

    Returns:
        By key, each after those that it starts from, in the order of who asks for them.
    """
    found: dict[str, Run] = {}
    ended: dict[str, bool] = {}

    def add(run: Run) -> None:
        if run.key in found:
            return
        for origin in run.starts.values():
            if origin.run is not None:
                key = origin.run.key
                if key not in ended:  # looked at once: storage may be far
                    ended[key] = is_ended(origin)
                if not ended[key]:
                    add(origin.run)
        found[run.key] = run

    for run in runs:
        add(run)
    return found


def descent(run: Run) -> tuple[Run, ...]:
    """A run and all that it descends from, each after those that it starts from."""
    found: dict[str, Run] = {}
    for origin in run.starts.values():
        if origin.run is not None:
            found.update({one.key: one for one in descent(origin.run)})
    return (*found.values(), run)


def question(run: Run) -> dict[str, Any]:
    """What a run asks, as plain data: not where things lie and not by which code."""
    return {
        "method": run.method,
        "stage": run.stage,
        "builds": sorted(run.builds),
        "target": run.target,
        "protocol": run.protocol,
        "fold": run.fold,
        "chosen_by": run.chosen_by,
        "config": run.config,
        "starts": {role: _question_of(origin) for role, origin in run.starts.items()},
    }


def _question_of(origin: Origin) -> Any:
    return question(origin.run) if origin.run else digest(origin.to_plain())
