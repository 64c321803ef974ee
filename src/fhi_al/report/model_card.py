"""The model card: what somebody has to know who is given a model."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.data import chemical_symbols

from fhi_al import __version__
from fhi_al.analysis.finished_run import FinishedRun
from fhi_al.analysis.summary import summarise
from fhi_al.procedures.run import finished
from fhi_al.procedures.samplings import SAMPLINGS
from fhi_al.record.files import write_text
from fhi_al.settings.reference import ENGINE_PACKAGES

if TYPE_CHECKING:
    from fhi_al.ensemble.conversion import Converted

CARD = "model_card"
_LIBRARIES = ("mace-torch", "torch", "e3nn", "ase", *ENGINE_PACKAGES)
_LICENCES = {name: choice.licence for name, choice in SAMPLINGS.items() if choice.licence}
"""Of the pretrained models that the program itself loads."""


def describe(run: FinishedRun, models: Sequence[Converted]) -> dict[str, Any]:
    """Put together all that is known of some models.

    Args:
        run: that made them.
        models: as they were written.

    Returns:
        Plain data, energies in eV, lengths in Å.
    """
    summary = summarise(run.records, [])
    spec = models[0].spec
    symbols = [chemical_symbols[number] for number in spec.elements]
    inputs = run.opened.inputs
    return {
        "name": inputs.get("GENERAL.name_exp", models[0].source.stem),
        "written": time.strftime("%Y-%m-%d"),
        "run_finished": finished(run.state),
        "stage": run.delivered_stage,
        "files": [
            {
                "file": model.file.name,
                "format": model.format,
                "dtype": model.dtype,
                "made_of": model.source.name,
                "sha256": model.sha256,
            }
            for model in models
        ],
        "elements": symbols,
        "cutoff_A": spec.r_max,
        "n_parameters": models[0].n_parameters,
        "architecture": dict(spec.options),
        "atomic_energies_eV": dict(zip(symbols, spec.atomic_energies, strict=True)),
        "units": {"energy": "eV", "forces": "eV/Å", "stress": "eV/Å^3, sign and order as in ASE"},
        "data": {
            "n_train": summary.n_labels - summary.n_valid - summary.n_audit,
            "n_valid": summary.n_valid,
            "n_audit": summary.n_audit,
            "n_rejected": summary.n_rejected,
            "labels_by_formula": summary.labels,
            "dynamics": _dynamics(inputs),
        },
        "errors": [asdict(errors) for errors in summary.errors],
        "reference": {
            **_reference(inputs),
            "control_in": _text(run.root / "control.in"),
            "digest": run.opened.engine,
        },
        "origin": _origin(inputs),
        "versions": {
            "fhi_al": run.opened.version,
            "python": platform.python_version(),
            **_versions(),
        },
        "exported_with_fhi_al": __version__,
    }


def _dynamics(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Under which conditions the structures were sampled: of each MD section, what counts."""
    words = ["stat_ensemble", "temperature_K", "temperature_end_K"]
    if any(name.endswith("stat_ensemble") and value == "npt" for name, value in inputs.items()):
        words += ["pressure_GPa", "pressure_end_GPa"]
    return {
        name: value
        for name, value in inputs.items()
        if name.startswith("MD") and name.rpartition(".")[2] in words and value is not None
    }


def _reference(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The REFERENCE section; of files, the names."""
    return {
        name.removeprefix("REFERENCE."): Path(value).name
        if isinstance(value, str) and Path(value).is_absolute()
        else value
        for name, value in inputs.items()
        if name.startswith("REFERENCE.")
    }


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _origin(inputs: Mapping[str, Any]) -> list[str]:
    """Whose models are in this one, or have helped to make it, in sentences."""
    sampling = str(inputs.get("ACTIVE_LEARNING.initial_sampling"))
    started = inputs.get("ACTIVE_LEARNING.initial_models")
    said = []
    if started:
        names = ", ".join(dict.fromkeys(Path(name).name for name in started))
        said.append(
            f"Fine-tuned from {names}: the licence of these models holds for this one, too; look "
            "it up where they come from."
        )
    elif sampling in _LICENCES:
        said.append(
            f"The first structures were sampled with {_LICENCES[sampling]}. The weights are new."
        )
    elif sampling not in (*SAMPLINGS, "None"):
        said.append(
            f"The first structures were sampled with the model {Path(sampling).name}. The weights "
            "are new."
        )
    else:
        said.append("The weights are new: no pretrained model was used.")
    if teacher := inputs.get("REFERENCE.model"):
        who = _LICENCES.get(teacher, Path(str(teacher)).name)
        said.append(f"All labels are predictions of another model: {who}.")
    return said


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def write_card(card: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write model_card.md and model_card.json."""
    paths = [folder / f"{CARD}.md", folder / f"{CARD}.json"]
    write_text(paths[0], _markdown(card))
    write_text(paths[1], json.dumps(card, indent=2, ensure_ascii=False) + "\n")
    return paths


def _markdown(card: Mapping[str, Any]) -> str:
    data, reference = card["data"], card["reference"]
    method = ", ".join(
        f"{name} {value}"
        for name, value in reference.items()
        if name in ("engine", "method", "calculator", "arguments", "model", "library") and value
    )
    lines = [
        f"# {card['name']}",
        "",
        f"A MACE force field for {', '.join(card['elements'])}, made by active learning with "
        f"FHI_AL {card['versions']['fhi_al']}; reference: {method}.",
        "",
    ]
    if not card["run_finished"]:
        lines += [f"**Of an unfinished run, after its stage {card['stage']}.**", ""]
    lines += ["## Files", ""]
    lines += _table(
        ("file", "format", "precision", "SHA-256"),
        ((f["file"], f["format"], f["dtype"], f["sha256"][:16]) for f in card["files"]),
    )
    units = ", ".join(f"{name} in {unit}" for name, unit in card["units"].items())
    atoms = ", ".join(f"{s} {e:.4f} eV" for s, e in card["atomic_energies_eV"].items())
    lines += [
        f"Cutoff {card['cutoff_A']:g} Å, {card['n_parameters']} parameters; {units}. The isolated "
        f"atoms have {atoms}.",
        "",
        "## Errors",
        "",
    ]
    lines += _table(
        ("model", "data", "structures", "F MAE", "F RMSE", "E MAE", "E RMSE"),
        (
            (
                f"{e['who']}, {e['system']}" if e["system"] else e["who"],
                e["data"],
                e["n_structures"],
                *(f"{1000 * e[name]:.1f}" for name in ("force_mae", "force_rmse")),
                *(f"{1000 * e[name]:.2f}" for name in ("energy_mae", "energy_rmse")),
            )
            for e in card["errors"]
        ),
    )
    formulas = ", ".join(f"{formula}: {n}" for formula, n in data["labels_by_formula"].items())
    lines += [
        "Forces (F) in meV/Å, energies (E) in meV/atom. Validation structures come from the same "
        "dynamics as the training structures, and the weights were chosen by them.",
        "",
        "## Data",
        "",
        f"{data['n_train']} structures to train on, {data['n_valid']} to validate on, "
        f"{data['n_audit']} sanity checks, {data['n_rejected']} rejected; labels by formula: "
        f"{formulas or 'unknown'}.",
        "",
    ]
    lines += _table(("dynamics", "value"), data["dynamics"].items())
    lines += ["Outside of these conditions, compositions and phases: test before you trust.", ""]
    lines += ["## Reference", ""]
    settings = {n: v for n, v in reference.items() if n not in ("control_in", "digest")}
    lines += _table(("setting", "value"), settings.items())
    if reference["control_in"]:
        lines += ["`control.in`:", "", "```", reference["control_in"].rstrip(), "```", ""]
    lines += ["## Origin and licence", "", *card["origin"], "", "## Versions", ""]
    lines += _table(("package", "version"), card["versions"].items())
    return "\n".join(lines)


def _table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> list[str]:
    cells = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    if not cells:
        return []
    rule = "|" + " --- |" * len(header)
    return [f"| {' | '.join(header)} |", rule, *(f"| {row} |" for row in cells), ""]
