"""Every registry keeps what its entries promise: one contract for all of them.

What a choice does is tested where it is at home; that a thermostat samples what it should, say, in
`md/test_ensembles.py`, which runs over the registry, too; and more of what engines say of
themselves in `reference/test_engines.py`.
"""

from __future__ import annotations

import re
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ase.build import bulk, molecule
from md_walkers import integrator, start
from simulated_runs import STOPS, opened_with, simulate

import fhi_al.cli.templates
from fhi_al.atoms.batch import Batch
from fhi_al.atoms.structure import Structure
from fhi_al.cli.templates import TEMPLATES
from fhi_al.md.barostats import BAROSTATS
from fhi_al.md.thermostats import THERMOSTATS
from fhi_al.md.uncertainty import UNCERTAINTIES
from fhi_al.procedures.samplings import MODEL_FILE, SAMPLINGS
from fhi_al.procedures.stop import (
    CONVERGE_STOP_CRITERIA,
    INITIAL_STOP_CRITERIA,
    STOP_CRITERIA,
)
from fhi_al.record.events import Event, Opened
from fhi_al.record.exports import DATASET_FORMATS, MODEL_FORMATS
from fhi_al.record.journal import Record
from fhi_al.record.measures import MEASURES
from fhi_al.record.registry import Choice, Citation, Registry
from fhi_al.report.citations import cited
from fhi_al.report.methods import methods
from fhi_al.report.story import Story, tell
from fhi_al.settings import load_inputs
from fhi_al.settings.active_learning import ActiveLearning
from fhi_al.settings.base import Among, Section, parse_section
from fhi_al.settings.geometry_in import format_geometry
from fhi_al.settings.inputs import flat_settings
from fhi_al.settings.md import MdSettings
from fhi_al.settings.reference import ENGINES

REGISTRIES: dict[str, Registry] = {
    "engines": ENGINES,
    "uncertainties": UNCERTAINTIES,
    "initial stop criteria": INITIAL_STOP_CRITERIA,
    "stop criteria": STOP_CRITERIA,
    "convergence stop criteria": CONVERGE_STOP_CRITERIA,
    "thermostats": THERMOSTATS,
    "barostats": BAROSTATS,
    "samplings": SAMPLINGS,
    "model formats": MODEL_FORMATS,
    "dataset formats": DATASET_FORMATS,
    "measures": MEASURES,
}
ENTRIES = [
    pytest.param(registry, name, id=f"{title}-{name}")
    for title, registry in REGISTRIES.items()
    for name in registry
]
PLACES = [
    (ActiveLearning, "uncertainty", UNCERTAINTIES),
    (ActiveLearning, "initial_sampling", SAMPLINGS),
    (ActiveLearning, "initial_stop_when", INITIAL_STOP_CRITERIA),
    (ActiveLearning, "stop_when", STOP_CRITERIA),
    (ActiveLearning, "converge_stop_when", CONVERGE_STOP_CRITERIA),
    (MdSettings, "thermostat", THERMOSTATS),
    (MdSettings, "barostat", BAROSTATS),
]
CHOSEN = [
    pytest.param(section, setting, name, id=f"{setting}-{name}")
    for section, setting, registry in PLACES
    for name in registry
]
# Why a stage ended, a run says itself.
TOLD = [case for case in CHOSEN if not case.values[1].endswith("stop_when")]
# Those that the program's authors made up, or that are older than any paper.
WITHOUT_A_PAPER = {*UNCERTAINTIES, "aimd", "perturb"}


# --- all entries -------------------------------------------------------------------------------


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
def test_a_choice_is_found_and_described(registry, name):
    choice = registry[name]
    assert isinstance(choice, Choice)
    assert callable(choice.load())
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name), "names are in lower case"
    assert len(choice.words.split()) > 1
    assert choice.words[-1] not in ".,;"
    if registry in (UNCERTAINTIES, THERMOSTATS, BAROSTATS, SAMPLINGS):
        assert bool(choice.citations) == (name not in WITHOUT_A_PAPER)


@pytest.mark.parametrize(("registry", "name"), ENTRIES)
def test_a_choice_names_settings_of_its_section(registry, name):
    choice, sections = registry[name], [kind for kind, _, of in PLACES if of is registry]
    in_details = {field for _, field, _, _ in string.Formatter().parse(choice.details) if field}
    for section in sections:
        assert {*choice.settings, *in_details} <= set(section.model_fields)
    assert sections or not (choice.settings or choice.details)


def test_a_citation_is_the_same_everywhere_and_has_its_own_key():
    found: dict[str, Citation] = {}
    choices = [choice for registry in REGISTRIES.values() for choice in registry.values()]
    for citation in (citation for choice in choices for citation in choice.citations):
        assert re.match(r"@\w+\{" + re.escape(citation.key) + ",\n", citation.bibtex)
        assert citation.bibtex.endswith("\n}")
        assert found.setdefault(citation.key, citation) == citation
    assert found


def test_registries_are_read_without_heavy_imports():
    modules = {value.__module__ for r in REGISTRIES.values() for value in map(type, r.values())}
    modules |= {
        "fhi_al.md.uncertainty",
        "fhi_al.md.thermostats",
        "fhi_al.md.barostats",
        "fhi_al.procedures.stop",
        "fhi_al.procedures.samplings",
        "fhi_al.record.exports",
        "fhi_al.settings.reference",
        "fhi_al.cli.templates",
    }
    script = (
        f"import sys, {', '.join(sorted(modules))}; "
        "print([m for m in ('torch', 'mace', 'ase', 'mpi4py', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_answered_with_what_there_is():
    registry = Registry("a tool", {"hammer": Choice(print, "it hits"), "saw": Choice(len, "cuts")})
    assert registry.name("HAMMER") == "hammer"
    with pytest.raises(ValueError, match=r"^expected 'hammer' or 'saw' \(did you mean hammer\?\)"):
        registry.name("hamer")
    with pytest.raises(KeyError, match="'Saw' is not a tool; expected"):
        registry["Saw"]
    assert "Saw" not in registry


# --- settings ----------------------------------------------------------------------------------


def parsed(section: type[Section], setting: str, value: object) -> tuple[object, list[str]]:
    """What a setting makes of a value, and the problems with it."""
    problems: list[str] = []
    found = parse_section(
        section, {setting: value}, file="f", name="S", directory=Path("/"), problems=problems
    )
    return getattr(found, setting, None), problems


def test_every_setting_that_names_choices_is_checked_here():
    found = {
        (section, name)
        for section in (ActiveLearning, MdSettings)
        for name, field in section.model_fields.items()
        if "OneOf" in repr(field) or "Among" in repr(field)
    }
    assert found == {(section, setting) for section, setting, _ in PLACES}
    for section, setting, registry in PLACES:
        metadata = section.model_fields[setting].metadata
        named = [item.registry for item in metadata if isinstance(item, Among)]
        assert all(item is registry for item in named)


@pytest.mark.parametrize(("section", "setting", "name"), CHOSEN)
def test_a_setting_takes_each_name_in_any_case(section, setting, name):
    given: object = name.upper()
    if setting in STOPS:
        given = [name.upper(), *(n for n, c in STOPS[setting].items() if c.sure)]
    value, problems = parsed(section, setting, given)
    assert not problems
    assert name in value if setting in STOPS else value == name


@pytest.mark.parametrize(("section", "setting", "registry"), PLACES)
def test_a_setting_refuses_other_names(section, setting, registry):
    first = next(iter(registry))
    for value in (f"{first}x", f"{first[:-1]}", "", 3, ["no"]):
        _, (problem, *_) = parsed(section, setting, value)
        assert f"S.{setting}" in problem
        if isinstance(value, str) and value:
            assert all(name in problem for name in registry)
            assert f"did you mean {first}?" in problem


@pytest.mark.parametrize("setting", STOPS)
def test_a_list_of_stop_criteria_needs_one_that_comes_for_sure(setting):
    sure = [name for name, choice in STOPS[setting].items() if choice.sure]
    others = [name for name in STOPS[setting] if name not in sure]
    _, (problem,) = parsed(ActiveLearning, setting, others)
    assert problem == (
        f"f: S.{setting}: got {others}, expected {' or '.join(sure)} among them: without, the "
        "stage might never end."
    )
    value, problems = parsed(ActiveLearning, setting, [*sure, *sure])
    assert (value, problems) == (tuple(sure), [])


# --- what they need, and what they are ---------------------------------------------------------


@pytest.mark.parametrize("name", UNCERTAINTIES)
def test_an_uncertainty_needs_what_it_says(name):
    random = torch.Generator().manual_seed(1)
    crystals = [Structure.from_atoms(bulk("Si", a=a)) for a in (5.4, 5.5)]
    batch = Batch.from_structures(crystals)
    mobile = torch.ones(4, dtype=torch.bool)
    forces = torch.rand((3, 4, 3), generator=random, dtype=torch.float64)
    stress = 100 * torch.rand((3, 2, 3, 3), generator=random, dtype=torch.float64)
    needs, measure = UNCERTAINTIES[name].needs, UNCERTAINTIES[name].load()
    without, given = measure(forces, batch, mobile), measure(forces, batch, mobile, stress)
    assert without.shape == (2,)
    assert torch.isfinite(without).all()
    assert bool((given != without).all()) == ("stress" in needs)
    alone = measure(forces[:1], batch, mobile)
    assert bool((alone == 0).all()) == ("members" in needs)
    assert not {"energies", "periodicity"} & needs


@pytest.mark.parametrize("name", THERMOSTATS)
def test_a_thermostat_conserves_momentum_or_says_that_it_does_not(name):
    crystal = Structure.from_atoms(bulk("Si", cubic=True))
    walkers = start([crystal] * 2, thermostat=name)
    assert walkers.at_rest.all() == THERMOSTATS[name].conserves_momentum
    walkers.at_rest[:] = False
    walkers.momenta += 0.1
    before = walkers.batch.sum(walkers.momenta)
    direction = before / before.norm(dim=1, keepdim=True)
    moves = integrator(walkers, thermostat=name, friction_per_fs=0.1, thermostat_time_fs=10.0)
    still = torch.zeros_like(walkers.momenta)
    for _ in range(100):
        moves.begin(walkers, still)
        moves.finish(walkers, still)
    after = walkers.batch.sum(walkers.momenta)
    # A thermostat that rescales all momenta alike leaves the frame in which they add up to nothing.
    turned = (after / after.norm(dim=1, keepdim=True) - direction).abs().max()
    assert (turned < 1e-9) == THERMOSTATS[name].conserves_momentum
    assert not moves.needs_stress
    assert not THERMOSTATS[name].needs


@pytest.mark.parametrize("name", BAROSTATS)
def test_a_barostat_needs_stress_and_a_cell(name):
    walkers = start([Structure.from_atoms(bulk("Si"))], ensemble="npt", barostat=name)
    moves = integrator(walkers, ensemble="npt", barostat=name, pressure=0.01)
    assert moves.needs_stress == ("stress" in BAROSTATS[name].needs)
    assert "periodicity" in BAROSTATS[name].needs
    cells = walkers.batch.cells.clone()
    stress = torch.zeros((1, 3, 3), dtype=torch.float64)
    moves.begin(walkers, torch.zeros_like(walkers.momenta), stress)
    assert (walkers.batch.cells != cells).any()


def test_formats_are_told_apart_by_how_their_files_end():
    suffixes = [f.suffix for r in (MODEL_FORMATS, DATASET_FORMATS) for f in r.values()]
    assert len(suffixes) == len(set(suffixes))
    assert not set(MODEL_FORMATS) & set(DATASET_FORMATS)


def test_every_folder_of_templates_is_described():
    folder = Path(fhi_al.cli.templates.__file__).parent
    found = {path.name for path in folder.iterdir() if (path / "control.in").exists()}
    assert found == set(TEMPLATES)


# --- reports -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def events(tmp_path_factory):
    """A simulated run of a molecule, with all settings as they are by default."""
    folder = tmp_path_factory.mktemp("told")
    water = Structure.from_atoms(molecule("H2O"))
    (folder / "geometry.in").write_text(format_geometry(water))
    (folder / "mace_settings.yaml").write_text("")
    (folder / "active_learning_settings.yaml").write_text("REFERENCE: {engine: xtb}")
    inputs = flat_settings(load_inputs(folder))
    return [event for _, event in simulate(opened_with(inputs))]


def tell_with(events: list[Event], **settings: object) -> Story:
    """The run with other settings, as it is reported."""
    opened = events[0]
    assert isinstance(opened, Opened)
    inputs = {**opened.inputs, **{k.replace("__", "."): v for k, v in settings.items()}}
    told = [replace(opened, inputs=inputs), *events[1:]]
    return tell([Record(number, float(number), event) for number, event in enumerate(told)])


@pytest.mark.parametrize(("section", "setting", "name"), TOLD)
def test_a_report_tells_of_each_choice(section, setting, name, events):
    """In words, with its papers in brackets and among those to be cited."""
    (registry,) = (of for kind, own, of in PLACES if (kind, own) == (section, setting))
    choice = registry[name]
    title = "MD" if section is MdSettings else "ACTIVE_LEARNING"
    story = tell_with(events, **{f"{title}__{setting}": name, "MD__stat_ensemble": "npt"})
    text, papers = methods(story), cited(story.last.inputs)
    assert choice.words in text
    assert "{" not in text
    assert set(choice.citations) <= set(papers)
    for citation in choice.citations:
        assert f"[{citation.key}]" in text
    others = {c for other in registry.values() for c in other.citations} - set(choice.citations)
    assert not others & set(papers)


def test_a_report_tells_of_a_model_file(events):
    story = tell_with(events, ACTIVE_LEARNING__initial_sampling="own.model")
    assert f"came from {MODEL_FILE.words}." in methods(story)
    assert not {c for s in SAMPLINGS.values() for c in s.citations} & set(cited(story.last.inputs))
