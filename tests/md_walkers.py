"""Walkers for tests, by the shortest way."""

from fhi_al.md.integrators import Integrator
from fhi_al.md.protocol import MdProtocol, Ramp
from fhi_al.md.start import start_walkers
from fhi_al.record import effects

FACTORS = (0.9, 1.0, 1.1)
# A history with which no walker will ever cross.
QUIET = {"histories": (effects.History("", (1e9,) * 20, 20),)}


def protocol(temperature=300.0, pressure=0.0, **changes):
    return MdProtocol(
        **{
            "temperature": Ramp.constant(temperature),
            "pressure": Ramp.constant(pressure),
            "initial_temperature_K": temperature,
            **changes,
        }
    )


def start(structures, trajectories=None, velocities=None, **changes):
    """Walkers that all have this protocol."""
    trajectories = range(len(structures)) if trajectories is None else trajectories
    protocols = [protocol(**changes)] * len(structures)
    return start_walkers(structures, trajectories, protocols, velocities=velocities)


def integrator(walkers, **changes):
    return Integrator(walkers, [protocol(**changes)] * len(walkers))


def finish(generator):
    """Run a generator to its end: its result, and how often it yielded."""
    count = 0
    while True:
        try:
            next(generator)
        except StopIteration as stop:
            return stop.value, count
        count += 1


def effect(**changes):
    trajectories = changes.get("trajectories", (0, 1, 2))
    n = len(trajectories)
    return effects.Advance(
        **{
            "id": "advance-1",
            "walkers": None,
            "trajectories": trajectories,
            "resets": (),
            "weights": "train-1",
            "histories": (),
            "checks_left": (500,) * n,
            "steps_left": (20,) * n,
            "audits_due": (-1,) * n,
            **changes,
        }
    )


def sample_effect(**changes):
    defaults = {"id": "sample-1", "method": "foundation", "count": 3, "first": 0, "walkers": None}
    return effects.Sample(**{**defaults, **changes})
