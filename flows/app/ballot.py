"""`aai evaluate ballot` and `tally`: blind preferences of people. Heavy modules are imported by the commands."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.app.terminal import remark, sentences

if TYPE_CHECKING:
    from aai.evaluate.preferences import Estimate
    from tasks.evaluate.tally import Tally

Folder = Annotated[Path, typer.Argument(help="Folder that `aai evaluate` has written.")]
Votes = Annotated[list[Path], typer.Argument(help="Files that voters saved, such as votes-*.json.")]


def ballot(  # noqa: PLR0913
    folder: Folder,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Page to write; by default ballot.html in the folder.")
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of pairs.")] = 200,
    method: Annotated[
        list[str] | None, typer.Option(help="Only pictures of this method; repeatable. By default all.")
    ] = None,
    question: Annotated[str, typer.Option(help="Question above each pair.")] = "Which picture fits the sound better?",
    max_px: Annotated[int, typer.Option(min=16, max=4096, help="Maximum side of a picture in the page.")] = 512,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the choice of pairs and sides.")] = 0,
) -> None:
    """Write a page on which people hear a clip and choose between two pictures without knowing the methods."""
    from flows.app.output import check_output, write_output

    with sentences():
        from tasks.evaluate.ballot import BallotOptions, make_ballot
        from tasks.evaluate.tally import check_key, key_of
        from tasks.runtime.config import read_options

        page = output or folder / "ballot.html"
        key = key_of(page)
        check_output(page, "--output", lambda data: b"<title>AAI ballot</title>" in data)
        check_output(key, "--output", lambda data: b'"ballot"' in data)
        given = {"pairs": pairs, "methods": method or (), "question": question, "max_px": max_px, "seed": seed}
        options = read_options(BallotOptions, given, "`aai evaluate ballot --help` lists all there are")
        made = make_ballot(folder, options)
        check_key(key, made.key["ballot"])
        write_output(key, (json.dumps(made.key, indent=1) + "\n").encode(), "--output")
        write_output(page, made.page.encode(), "--output")
    for note in made.notes:
        remark(note)
    num_clips = len({pair.clip_id for pair in made.pairs})
    typer.echo(f"wrote {page}: {len(made.pairs):,} pairs of {num_clips:,} clips, {len(made.page) / 1e6:.1f} MB")
    typer.echo(f"keep {key} to yourself: it says which picture is by which method, and `aai evaluate tally` needs it")


def tally(
    votes: Votes,
    key: Annotated[
        list[Path] | None, typer.Option(help="Key of the ballot; by default all keys beside the votes.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write all figures to this file, as JSON.")
    ] = None,
) -> None:
    """Count the votes on a ballot: win rates and a Bradley-Terry ranking, with 95 % intervals."""
    from flows.app.output import check_output, write_output

    with sentences():
        from tasks.evaluate.tally import tally as count

        if output:
            check_output(output, "--output", lambda data: b'"standings"' in data)
        counted = count(votes, key or ())
        if output:
            write_output(output, (json.dumps(counted.as_json(), indent=1) + "\n").encode(), "--output")
    for note in counted.notes:
        remark(note)
    _show(counted)
    if output:
        typer.echo(f"wrote {output}")


def _show(counted: "Tally") -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    ranking = counted.ranking
    table = Table("rank", "method", "votes", "won", "strength")
    for number, own in enumerate(ranking.standings, start=1):
        low, high = own.rank
        ranks = f"{number}" if low == high else f"{number} ({low} to {high})"
        table.add_row(ranks, escape(own.method), f"{own.num:,}", _text(own.wins), _text(own.strength))
    Console().print(table)
    duels = Table("method", "against", "votes", "won")
    for duel in ranking.duels:
        duels.add_row(*map(escape, duel.methods), f"{duel.num:,}", _text(duel.wins))
    Console().print(duels)
    typer.echo(
        f"{ranking.num_votes:,} votes of {ranking.num_voters:,} voters on {ranking.num_clips:,} clips; "
        f"{counted.num_ties:,} ties count as halves; {counted.left_share:.0%} for the left picture"
    )
    typer.echo("strength: Bradley-Terry, natural logarithm, mean 0; higher is better, 0.7 more wins two of three votes")
    typer.echo("in parentheses: 95 % bootstrap interval over clips and voters, without width where all votes agree")


def _text(estimate: "Estimate") -> str:
    has_interval = estimate.low == estimate.low
    return f"{estimate.value:.2f}" + (f" ({estimate.low:.2f} to {estimate.high:.2f})" if has_interval else "")
