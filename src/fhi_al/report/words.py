"""A run in a few sentences, and what about it deserves a look."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from fhi_al.analysis.predictions import Predictions
from fhi_al.analysis.scores import Score, calibration, deviations, score
from fhi_al.analysis.summary import Summary
from fhi_al.procedures.run import delivered_members, finished, moving_stage, stage_words
from fhi_al.report.methods import reference_name
from fhi_al.report.score_tables import brief
from fhi_al.report.story import Story


@dataclass(frozen=True)
class Figure:
    """One number at the top of the page.

    Attributes:
        value: with its unit.
        about: what it is.
    """

    value: str
    about: str


@dataclass(frozen=True)
class DeliveredErrors:
    """Errors of what the user gets, on one dataset.

    Attributes:
        data: name of the dataset.
        n_structures: in it.
        forces: in eV/Å.
        energy: in eV per atom.
        stress: in eV/Å^3; None where there is none.
    """

    data: str
    n_structures: int
    forces: Score
    energy: Score
    stress: Score | None


def delivered_errors(story: Story, sets: Mapping[str, Predictions]) -> list[DeliveredErrors]:
    """Errors of the delivered models' mean on each dataset."""
    found = []
    for data, predictions in sets.items():
        off = deviations(predictions, delivered(story, predictions))
        forces, energy = score(off.forces), score(off.energies)
        if forces is not None and energy is not None:
            found.append(DeliveredErrors(data, len(predictions), forces, energy, score(off.stress)))
    return found


def delivered(story: Story, predictions: Predictions) -> list[int]:
    """Places, among the models that predicted, of those that the user gets."""
    members = delivered_members(story.state)
    return [i for i, member in enumerate(predictions.members.tolist()) if member in members]


def duration_in_words(seconds: float) -> str:
    """A time in words: `42 s`, `3.5 min`, `2.1 h`, `1.4 d`."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def systems(story: Story) -> str:
    """What was simulated: formulas, as far as they are known, or elements."""
    formulas = list(dict.fromkeys(answer.formula for answer in story.answers if answer.formula))
    if 0 < len(formulas) <= 4:
        return ", ".join(formulas)
    return f"{len(formulas)} systems of {' '.join(story.last.elements)}" if formulas else ""


def summary_words(story: Story, summary: Summary, errors: list[DeliveredErrors]) -> list[str]:
    """The run in sentences."""
    state = story.state
    what = systems(story) or " ".join(story.last.elements)
    where = (
        "has reached its goal"
        if finished(state)
        else f"is not finished: it stands in the stage “{stage_words(state)}”"
    )
    seconds = sum(cost.reference_seconds for cost in summary.costs)
    wall = sum(cost.wall_seconds for cost in summary.costs)
    ranks = len(story.last.places)
    inputs = story.last.inputs
    by = f", with {reference_name(inputs)} as the reference," if inputs else ""
    n_train = summary.n_labels - summary.n_valid - summary.n_audit
    sentences = [
        f"This run on {what}{by} {where}.",
        f"{story.calls} reference calculations ({duration_in_words(seconds)}) "
        + ("and the imported data " if state.books.imported else "")
        + f"gave {summary.n_labels} labels: {n_train} for training, {summary.n_valid} for "
        "validation" + (f", {summary.n_audit} for sanity checks" if summary.n_audit else "") + ".",
    ]
    moving = moving_stage(state)
    if moving is not None and (reason := moving.reason(moving.own(state))):
        sentences.append(f"{moving.title} ended: {reason}.")
    for found in errors:
        models = "models'" if len(delivered_members(state)) > 1 else "model's"
        if finished(state):
            models = f"delivered {models}"
        sentences.append(
            f"On {found.n_structures} {found.data} structures, the {models} mean absolute errors "
            f"are {brief(1000 * found.forces.mae)} meV/Å for forces and "
            f"{brief(1000 * found.energy.mae)} meV/atom for energies."
        )
    took = "It took" if finished(state) else "So far, it has taken"
    sentences.append(
        f"{took} {duration_in_words(wall)}"
        + (f" on {ranks} rank{'s' if ranks > 1 else ''}" if ranks else "")
        + (f", in {story.n_commands} commands" if story.n_commands > 1 else "")
        + "."
    )
    return sentences


def figures(story: Story, summary: Summary, errors: list[DeliveredErrors]) -> list[Figure]:
    """The numbers that most readers look for."""
    wall = sum(cost.wall_seconds for cost in summary.costs)
    found = [
        Figure(f"{story.calls}", "reference calculations"),
        Figure(f"{summary.train_size}", "training structures of a member"),
        Figure(duration_in_words(wall), "wall time"),
    ]
    if errors:
        best = errors[-1]  # the test set, where there is one
        found = [
            Figure(f"{brief(1000 * best.forces.mae)} meV/Å", f"force MAE, {best.data}"),
            Figure(f"{brief(1000 * best.energy.mae)} meV/atom", f"energy MAE, {best.data}"),
            *found,
        ]
    elif (mae := story.state.books.force_mae) is not None:
        found = [Figure(f"{brief(1000 * mae)} meV/Å", "force MAE, validation, so far"), *found]
    return found


def remarks(
    story: Story, summary: Summary, sets: Mapping[str, Predictions], errors: list[DeliveredErrors]
) -> list[str]:
    """What a careful reader would want to have pointed out."""
    return [
        *_on_errors(story, errors),
        *_on_data(story, summary),
        *_on_uncertainty(sets),
        *_on_ranks(story, summary),
    ]


def _on_errors(story: Story, errors: list[DeliveredErrors]) -> Iterator[str]:
    by_data = {found.data: found for found in errors}
    validation, test = by_data.get("validation"), by_data.get("test")
    target = story.state.rules.desired_acc
    if validation and finished(story.state) and validation.forces.mae > target:
        yield (
            f"The force error on the validation data, {brief(1000 * validation.forces.mae)} meV/Å, "
            f"is above desired_acc ({1000 * target:g} meV/Å)."
        )
    if validation and validation.n_structures < 10:
        yield (
            f"The validation set has only {validation.n_structures} structures: its errors are "
            "uncertain."
        )
    if validation and not test and finished(story.state):
        yield (
            "There is no test set. Validation structures come from the same trajectories as the "
            "training data; ACTIVE_LEARNING.test_set or FHI_AL-test-ensemble measure on data of "
            "your own."
        )
    if validation and test and test.forces.mae > 1.5 * validation.forces.mae:
        yield (
            f"Force errors on the test set are {test.forces.mae / validation.forces.mae:.1f} times "
            "those on the validation set: it holds structures that the trajectories did not visit."
        )


def _on_data(story: Story, summary: Summary) -> Iterator[str]:
    rejected = story.sizes[-1].rejected if story.sizes else 0
    if rejected:
        share = 100 * rejected / max(len(story.answers), 1)
        yield (
            f"{rejected} structures were rejected ({share:.1f} % of those computed); they are in "
            "rejected.xyz beside the datasets, with the reasons."
        )
    if broken := sum(c.reason == "unstable" for w in story.walks.values() for c in w.chosen):
        yield (
            f"Trajectories broke down {broken} times; the last sane frames are in unstable.xyz "
            "beside the datasets."
        )
    if story.rescues:
        yield f"{sum(story.rescues.values())} SCFs converged only with other settings."
    if story.deaths:
        yield f"The reference library took its process down {story.deaths} times."


def _on_uncertainty(sets: Mapping[str, Predictions]) -> Iterator[str]:
    for data, predictions in sets.items():
        found = calibration(predictions)
        if found is None:
            continue
        if found.ratio > 2:
            yield (
                f"The committee is too sure of itself: its force errors on the {data} data are "
                f"{found.ratio:.1f} times the members' spread."
            )
        if found.rank_correlation < 0.3:
            yield (
                f"The members' spread hardly tells where the errors are ({data} data: rank "
                f"correlation {found.rank_correlation:.2f})."
            )


def _on_ranks(story: Story, summary: Summary) -> Iterator[str]:
    workers = {worker for place in story.last.places for worker in place.workers}
    for use in summary.roles:
        share = sum(use.busy.values()) / use.rank_seconds if use.rank_seconds else 1.0
        if use.role == "idle":
            yield "Some ranks had nothing to do in the whole run."
        elif share < 0.3 and sum(worker.role == use.role for worker in workers) > 1:
            yield (
                f"The {use.role} ranks were busy for {100 * share:.0f} % of their time; a layout "
                "with fewer of them would waste less."
            )
