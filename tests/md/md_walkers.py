"""Walkers for tests, by the shortest way."""

from fhi_al.md.integrators import Integrator
from fhi_al.md.protocol import Protocol, Ramp
from fhi_al.md.walker import Walkers


def protocol(temperature=300.0, pressure=0.0, **changes):
    return Protocol(
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
    return Walkers.start(structures, trajectories, protocols, velocities=velocities)


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
