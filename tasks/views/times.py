"""How long a build will take: estimates of its stages, and sentences on their sum and on what they follow from."""

from collections.abc import Mapping, Sequence

from aai.errors import BadConfig
from aai.format import duration
from tasks.runtime.estimates import Estimate, Estimates, placement_of
from tasks.runtime.placement import Node, nodes_to_come
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

Work = Sequence[tuple[Stage, int]]
"""Stages with the numbers of items that they have to do."""


def estimate_all(run: Run, work: Work, others: Sequence[Stage]) -> tuple[dict[str, Estimate], list[str]]:
    """An estimate for each stage by its name, and sentences on all together; `others` are stages without a number.

    Raises:
        Transient: the store failed.
    """
    estimates = Estimates(run)
    found = _of_all(run, estimates, work)
    sentences = [f"{_total(found)}{_without(estimates, others)}", *_as_job(run, estimates, work)]
    known = {name: each.basis for name, each in found.items() if each.seconds is not None}
    if known:
        sentences.append("estimates follow from the runs so far:")
        sentences += [f"  {name}: {basis}" for name, basis in known.items()]
    return found, [*sentences, *_advice(found)]


def _of_all(run: Run, estimates: Estimates, work: Work, nodes: Sequence[Node] | None = None) -> dict[str, Estimate]:
    found = {}
    for stage, num in work:
        try:
            placement = placement_of(run, stage, nodes) if stage.worker else None
        except BadConfig:  # the places say so
            placement = None
        found[stage.name] = estimates.of(stage, num, placement)
    return found


def _total(found: Mapping[str, Estimate]) -> str:
    """The sum of what is known, and of which stages nothing is."""
    unknown = [name for name, each in found.items() if each.seconds is None]
    if len(unknown) == len(found):
        return "in total: unknown"
    sum_s = sum(each.seconds or 0.0 for each in found.values())
    return f"in total: {'at least' if unknown else 'about'} {duration(sum_s)}" + (
        f", and what {', '.join(unknown)} will take" if unknown else ""
    )


def _without(estimates: Estimates, others: Sequence[Stage]) -> str:
    """Which stages are not in the sum, with the times of their last runs."""
    if not others:
        return ""
    took = [(stage.name, estimates.last_s(stage)) for stage in others]
    names = [name if last_s is None else f"{name} ({duration(last_s)} last time)" for name, last_s in took]
    return f", without {', '.join(names)}"


def _as_job(run: Run, estimates: Estimates, work: Work) -> list[str]:
    """The sum on the nodes of the section `submit`, if it names any."""
    options = run.config.submit
    if not (nodes := nodes_to_come(options)):
        return []
    found = _of_all(run, estimates, work, nodes)
    kinds = sorted({each.basis for each in found.values() if each.seconds is None})
    why = f" ({', '.join(kinds)})" if kinds else ""
    parts = ((options.nodes, "node"), (options.cpus, "CPU"), (options.gpus, "GPU"))
    nodes_, cpus, gpus = (f"{num:,} {name}{'' if num == 1 else 's'}" for num, name in parts)
    size = f"{nodes_} of {cpus} and {gpus}"
    return [f"as a job of the section `submit` ({size}), {_total(found)}{why}"]


def _advice(found: Mapping[str, Estimate]) -> list[str]:
    """What would tell more, where nothing is known or little."""
    unknown = [name for name, each in found.items() if each.seconds is None]
    rough = [name for name, each in found.items() if each.is_rough]
    advice = []
    if rough:
        advice.append(
            f"rough (?): {', '.join(rough)}, of which no run had these options and a minute of work per worker"
        )
    if unknown or rough:
        advice.append(
            "a trial tells more: build a part of the folders, so large that each of these stages works for a minute or "
            "more, on the same kind of machine (`aai build --set workspace=trial --set audio=… --set images=…`); then "
            "`aai plan --set workspace=trial` has the times of all"
        )
    return advice
