"""One function a command. Each parses, asks the library, and hands the answer to ``render``."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from pl_hybridjobs import __version__
from pl_hybridjobs.cli import facts, render
from pl_hybridjobs.cli.dashboard import dashboard
from pl_hybridjobs.cli.emulator import emulator
from pl_hybridjobs.cli.image import image
from pl_hybridjobs.cli.ray import ray
from pl_hybridjobs.errors import AmbiguousName, HybridJobsError, InvalidCall, JobNotFound, PackingError, ResultNotReady, did_you_mean
from pl_hybridjobs.jobs.folder import JobFolder
from pl_hybridjobs.jobs.spec import Status
from pl_hybridjobs.jobs.trackers import TRACKERS
from pl_hybridjobs.plain import line, plain

if TYPE_CHECKING:
    from pl_hybridjobs.cost.budget import Budget
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.sweep import Sweep

EXIT_USAGE = 2
EXIT_NOT_OVER = 6
EXIT_ERROR = 7
#: How a job's fate becomes the exit code of ``run``, ``logs -f``, ``result`` and ``resume``.
EXIT_OF = {
    Status.COMPLETED: 0,
    Status.FAILED: 1,
    Status.CANCELLED: 3,
    Status.INTERRUPTED: 4,
    Status.UNKNOWN: 5,
}


def _limits(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a budget."""
    for option, kind, text in (
        ("--max-time", float, "Most seconds that devices may bill for."),
        ("--max-shots", int, "Most shots."),
        ("--max-tasks", int, "Most tasks."),
        ("--max-usd", str, "Most US dollars."),
    ):
        name = "max_time_s" if option == "--max-time" else option[2:].replace("-", "_")
        command = click.option(option, name, type=kind, metavar="N", help=text)(command)
    return command


_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for other programs.")


class Commands(click.Group):
    """A group that suggests near command names and turns our errors into one clear message."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; suggest near names where there is none."""
        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise click.UsageError(f"There is no command {name!r}.{did_you_mean(name, self.list_commands(ctx))}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except HybridJobsError as error:
            click.echo(plain(f"Error: {error}"), err=True)
            ctx.exit(_code_of_error(error))
        except OSError as error:
            if error.filename is None:  # a closed pipe, or a defect
                raise
            click.echo(f"Error: {error.filename}: {error.strerror}", err=True)
            ctx.exit(EXIT_ERROR)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def cli() -> None:
    """Hybrid quantum-classical jobs: run, watch, resume.

    \b
    Example:
      hybridjobs run train.py:vqe --arg steps=100
      hybridjobs logs -f vqe

    Exit codes of run, logs -f, result and resume: 0 completed, 1 failed, 2 wrong usage, 3 cancelled, 4 interrupted, 5 unknown,
    6 not over yet, 7 something else went wrong.
    """


@cli.command()
@click.argument("target", metavar="FILE[:FUNC]")
@click.option("--arg", "args", multiple=True, metavar="NAME=VALUE", help="An argument; repeat for more.")
@click.option("--device", help="A PennyLane device, for example lightning.qubit.")
@click.option("--runner", help="Where to run: local (default), inline, container, slurm, ray, rehearsal or braket.")
@click.option("--name", help="The job's name.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=TEXT", help="A tag; repeat for more.")
@click.option("--input", "inputs", multiple=True, metavar="[CHANNEL=]PATH", help="An input file or folder; repeat for more.")
@click.option("--include", multiple=True, metavar="PATH", help="A module, file or folder that must travel along; repeat for more.")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Stop an attempt after this time.")
@click.option("--memory", "memory_mb", type=float, metavar="MB", help="Stop an attempt that uses more.")
@click.option("--threads", type=int, help="How many cores it may use.")
@click.option("--retries", type=int, help="New attempts after interruptions.")
@click.option(
    "--mirror", "mirrors", multiple=True, metavar="TRACKER[=PLACE]", help="Show its metrics in tensorboard or mlflow; repeat for both."
)
@click.option("--key", help="Idempotency key: the same key gives the same job.")
@_limits
@click.option("--detach", "-d", is_flag=True, help="Print the job's name and leave.")
@_JSON
def run(target: str, args: tuple[str, ...], detach: bool, as_json: bool, **given: Any) -> None:
    """Run a function of a file, a whole script, or a package as a job, and follow it.

    Ctrl-C leaves the job running.

    \b
    Example:
      hybridjobs run train.py:vqe --arg steps=100 --device lightning.qubit
    """
    from pl_hybridjobs.jobs.script import submit_script

    path, entry_point = _split_target(target)
    job = submit_script(path, entry_point, dict(_pairs(args, "--arg")), **_options(given))
    if detach or as_json:
        _print_job(job, as_json)
        return
    click.echo(f"{job.name} ({job.id})", err=True)
    _follow(job)


@cli.command("list")
@click.option("--status", "statuses", multiple=True, help="Only this status; repeat for more.")
@click.option("--tag", "tags", multiple=True, metavar="NAME=TEXT", help="Only with this tag; repeat for more.")
@click.option("--name", help="Only names that match this shell pattern, for example 'vqe*'.")
@click.option("--sweep", metavar="NAME", help="Only the jobs of this sweep: its id, or the name of one of its jobs.")
@click.option("--since", metavar="AGE", help="Only jobs younger than this, for example 90s, 30m, 12h, 7d.")
@click.option("--limit", "-n", type=click.IntRange(min=1), default=30, show_default=True, help="At most so many, the newest.")
@_JSON
def list_command(
    statuses: tuple[str, ...],
    tags: tuple[str, ...],
    name: str | None,
    sweep: str | None,
    since: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first.

    \b
    Example:
      hybridjobs list --status running --since 1d
    """
    from pl_hybridjobs.jobs.handle import list_jobs

    age_s = _age_s(since) if since else None
    found = list_jobs(
        status=list(statuses) or None,
        tags=dict(_pairs(tags, "--tag")),
        name=name,
        since=None if age_s is None else time.time() - age_s,
    )
    if sweep is not None:
        members = set(_open_sweep(sweep).jobs)
        found = [job for job in found if job in members]
    shown = [facts.line(job) for job in found[:limit]]
    if as_json:
        click.echo(json.dumps(shown, indent=1))
    else:
        render.table(shown, more=len(found) - len(shown))


@cli.command()
@click.argument("name")
@_JSON
def show(name: str, as_json: bool) -> None:
    """Show one job: status, arguments, last metrics, checkpoints, where its files are. Of a sweep, by its id: a table of its jobs.

    \b
    Example:
      hybridjobs show vqe
    """
    from pl_hybridjobs.jobs.sweep import Sweep

    shown = _open_either(name)
    if isinstance(shown, Sweep):
        table = shown.table()
        click.echo(json.dumps([_strict(row) for row in table.records()], indent=1) if as_json else str(table))
        return
    details = facts.details(shown)
    if as_json:
        click.echo(json.dumps(details, indent=1))
    else:
        render.details(details)


@cli.command()
@click.argument("name")
@click.option("--follow", "-f", is_flag=True, help="Print lines as they come, until the job is over; the exit code tells its fate.")
@click.option("--tail", "-n", type=click.IntRange(min=0), help="Only the last lines.")
def logs(name: str, follow: bool, tail: int | None) -> None:
    """Print a job's output.

    \b
    Example:
      hybridjobs logs -f vqe
    """
    job = _open(name)
    if follow:
        _follow(job)
        return
    text = job.logs()
    if tail is not None:
        text = "".join(text.splitlines(keepends=True)[-tail:] if tail else [])
    click.echo(text, nl=False)


@cli.command()
@click.argument("name")
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@click.option("--follow", "-f", is_flag=True, help="Print values as they come, until the job is over.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV: name, step, value, time.")
@_JSON
def metrics(name: str, metrics: tuple[str, ...], follow: bool, as_csv: bool, as_json: bool) -> None:
    """Print a job's metrics: a summary, or all values.

    \b
    Example:
      hybridjobs metrics vqe energy --csv > energy.csv
    """
    from pl_hybridjobs.jobs.metrics import of_job

    job = _open(name)
    if follow:
        _follow_metrics(job, metrics)
        return
    table = of_job(job, metrics, f"metrics {name}")
    for problem in table.problems:
        click.echo(f"warning: {problem}", err=True)
    if as_json:
        click.echo(json.dumps([_strict(row) for row in table.rows()]))
    elif as_csv:
        click.echo(table.to_csv(), nl=False)
    else:
        render.metrics(table)


@cli.command()
@click.argument("name")
@click.argument("target", metavar="PATH_OR_URI", required=False)
@click.option("--format", "-f", "kind", type=click.Choice(["csv", "parquet", *TRACKERS]), required=True, help="What to write.")
def export(name: str, target: str | None, kind: str) -> None:
    """Write a job's metrics, as they are now, into a file or to a tracker. Doing it again adds what is new.

    \b
    Example:
      hybridjobs export vqe --format parquet vqe.parquet
      hybridjobs export vqe --format tensorboard runs
      hybridjobs export vqe --format mlflow http://127.0.0.1:5000
    """
    job = _open(name)
    if kind in TRACKERS:
        from pl_hybridjobs.jobs.trackers.mirror import be_patient

        be_patient()
        job.export(kind, target)
    elif target is None:
        raise click.UsageError(f"Give the file to write: hybridjobs export {name} --format {kind} {name}.{kind}")
    else:
        job.export(kind, target)
        click.echo(target)


@cli.command()
@click.argument("name")
@click.argument("target", metavar="PATH_OR_URI", required=False)
@click.option("--format", "-f", "kind", type=click.Choice(list(TRACKERS)), help="Which tracker; default: what the job was submitted with.")
@click.option("--detach", "-d", is_flag=True, help="Do it in the background; `show` tells how it stands.")
def mirror(name: str, target: str | None, kind: str | None, detach: bool) -> None:
    """Keep a tracker up to date with a job's metrics until the job is over. Killed, it goes on where it was when begun again.

    \b
    Example:
      hybridjobs mirror vqe --format tensorboard runs
      hybridjobs mirror vqe --detach
    """
    from pl_hybridjobs.jobs import trackers
    from pl_hybridjobs.jobs.trackers.mirror import be_patient
    from pl_hybridjobs.jobs.trackers.mirror import mirror as follow

    job = _open(name)
    places = dict(job.spec.mirrors) if kind is None else {kind: trackers.place(kind, target)}
    if not places:
        raise click.UsageError(f"{job.name} was submitted without mirror=; say where to: --format tensorboard runs")
    folder = JobFolder(job.folder)
    if detach:
        trackers.begin(folder, places)
        return
    if len(places) > 1:
        raise click.UsageError(f"{job.name} has {' and '.join(places)}; choose one by --format, or take both with --detach.")
    be_patient()
    ((tracker, place),) = places.items()
    done: list[bool] = []
    _interruptible(lambda: done.append(follow(folder, tracker, place, lambda text: click.echo(f"{tracker}: {text}", err=True))))
    sys.exit(0 if done[0] else EXIT_ERROR)


@cli.command()
@click.argument("name", required=False)
@click.option("--once", is_flag=True, help="Show it once and leave.")
@click.option("--interval", "interval_s", type=click.FloatRange(min=0.1), default=1.0, show_default=True, metavar="SECONDS")
def watch(name: str | None, once: bool, interval_s: float) -> None:
    """Look at a job while it runs: progress, time left, curves, the log's end, what it cost. Without a name: at all jobs.

    Ctrl-C leaves; jobs go on. Into a pipe or a file it writes one picture when it begins and one when the job is over.

    \b
    Example:
      hybridjobs watch vqe
    """
    from pl_hybridjobs.cli import live

    job = _open(name) if name else None
    _interruptible(lambda: live.watch(job, interval_s=interval_s, once=once), job)


@cli.command()
@click.argument("name")
@click.argument("metrics", nargs=-1, metavar="[METRIC]...")
@click.option("--output", "-o", metavar="FILE", help="Write a PNG, SVG or PDF (by its ending) instead of drawing in the terminal.")
@click.option("--log", "log_scale", is_flag=True, help="A logarithmic scale.")
def plot(name: str, metrics: tuple[str, ...], output: str | None, log_scale: bool) -> None:
    """Draw a job's metrics over steps, in the terminal or into a file. Of a sweep, by its id: one metric of all jobs, into a file.

    \b
    Example:
      hybridjobs plot vqe energy
      hybridjobs plot vqe energy -o energy.svg
    """
    from pl_hybridjobs.jobs.metrics import of_job
    from pl_hybridjobs.jobs.sweep import Sweep

    found = _open_either(name)
    if isinstance(found, Sweep):
        if output is None or len(metrics) != 1:
            raise click.UsageError(f"Of a sweep, give one metric and a file: hybridjobs plot {name} energy -o energy.png")
        found.plot(*metrics, path=output, log=log_scale)
    else:
        if output is None:
            render.charts(of_job(found, metrics, f"plot {name}"), log=log_scale)
            return
        found.plot(output, *metrics, log=log_scale)
    click.echo(output)


@cli.command()
@click.argument("name")
@click.option("--timeout", type=float, metavar="SECONDS", help="Wait at most so long.")
@_JSON
def result(name: str, timeout: float | None, as_json: bool) -> None:
    """Wait for a job and print what its function returned.

    \b
    Example:
      hybridjobs result vqe --json
    """
    job = _open(name)
    _interruptible(lambda: job.wait(timeout))
    error = job.exception(0)
    if error is not None:
        click.echo(plain(str(error)), err=True)
        sys.exit(_exit_code(job))
    value = job.plain_result()
    click.echo(json.dumps(value, indent=1) if as_json or not isinstance(value, str) else value)


@cli.command()
@click.argument("name")
@click.option("--grace", "grace_s", type=click.FloatRange(min=0), default=10.0, show_default=True, metavar="SECONDS")
def cancel(name: str, grace_s: float) -> None:
    """Stop a job and everything that it started; of a sweep, by its id, all jobs that are not over.

    \b
    Example:
      hybridjobs cancel vqe
    """
    from pl_hybridjobs.jobs.sweep import Sweep

    found = _open_either(name)
    if isinstance(found, Sweep):
        found.cancel(grace_s)
        click.echo(f"sweep {found.id}, {found.summary()}")
    else:
        click.echo(f"{found.name} is {found.cancel(grace_s)}")


@cli.command()
@click.argument("name")
@_limits
@click.option("--detach", "-d", is_flag=True, help="Do not follow it.")
def resume(name: str, detach: bool, **limits: Any) -> None:
    """Start the next attempt of a job, from its newest good checkpoint, and follow it. A limit that is given replaces the job's own.

    Of a sweep, by its id: of all jobs that were interrupted, cancelled, or have failed.

    \b
    Example:
      hybridjobs resume vqe
      hybridjobs resume vqe --max-usd 10
    """
    from pl_hybridjobs.jobs.sweep import Sweep

    found = _open_either(name)
    if isinstance(found, Sweep):
        _resume_sweep(found, _budget(limits), detach=detach)
        return
    job = found.resume(budget=_budget(limits))
    click.echo(f"{job.name} ({job.id})", err=True)
    if not detach:
        _follow(job)


@cli.group(invoke_without_command=True)
@_JSON
@click.pass_context
def budget(ctx: click.Context, as_json: bool) -> None:
    """Show what was spent with this home folder by all its jobs, and beside them, and what may be.

    What was bought in rehearsals and at emulators is told apart: nobody pays for it. Where the environment is an emulator's, `set` and
    `clear` change the budget that holds there.

    \b
    Example:
      hybridjobs budget set --max-usd 50
      hybridjobs budget
      hybridjobs budget clear
    """
    if ctx.invoked_subcommand is not None:
        return
    from pl_hybridjobs.cost.account import of_user

    user, emulated = of_user(emulated=False), of_user(emulated=True)
    if as_json:
        told = {"budget": user.limits.to_json(), "cost": facts.cost(user.cost())}
        pretended = {"budget": emulated.limits.to_json(), "cost": facts.cost(emulated.cost())}
        click.echo(json.dumps({**told, "emulated": pretended}, indent=1))
    else:
        render.budget(user.limits, user.cost(), emulated.limits, emulated.cost())


@budget.command("set")
@_limits
def budget_set(**limits: Any) -> None:
    """Limit what all jobs of this home folder, and what is bought beside them, may cost together. Limits that are not named stay.

    \b
    Example:
      hybridjobs budget set --max-usd 50 --max-tasks 1000
    """
    from pl_hybridjobs.cost.account import budget_file, read_budget
    from pl_hybridjobs.jobs.durable import dump_json, locked, write_bytes

    given = _budget(limits)
    if not given:
        raise click.UsageError("Give at least one limit, for example --max-usd 50; `hybridjobs budget clear` takes all away.")
    path = budget_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(path.with_suffix(".lock")):
        changed = read_budget(path).changed(given)
        write_bytes(path, dump_json(changed.to_json()))
    click.echo(f"The budget{_where()} is now {changed}.")


@budget.command("clear")
def budget_clear() -> None:
    """Take all limits of the user's budget away. Those of jobs stay."""
    from pl_hybridjobs.cost.account import budget_file

    budget_file().unlink(missing_ok=True)
    click.echo(f"There is no limit{_where()} now, beside those of jobs.")


@budget.command("settle")
@click.option("--older-than", default="1d", show_default=True, metavar="AGE", help="Leave alone what is younger, for example 30m or 2h.")
def budget_settle(older_than: str) -> None:
    """Settle what processes outside of jobs left open when they died: what was never sent is given back, of what was sent Amazon Braket is
    asked. A job's purchases are settled when it is resumed; what was set aside for a Braket job that was never sent is given back, too.

    \b
    Example:
      hybridjobs budget settle --older-than 2h
    """
    from pl_hybridjobs.braket.settling import settle
    from pl_hybridjobs.cost.account import of_user
    from pl_hybridjobs.home import default_home

    done = settle(of_user(), default_home(), _age_s(older_than, "--older-than"))
    click.echo(f"{done.released} never sent and given back, {done.ended} ended and settled, {len(done.open)} open")
    for sentence in done.open:
        click.echo(f"  {sentence}")


@budget.command("mirror")
@click.argument("device")
def budget_mirror(device: str) -> None:
    """Tell Amazon Braket what is left of the user's dollars, as its own spending limit for one QPU: a second line behind this one.

    Do it again when the budget was raised, or after spending elsewhere: the service counts for itself.

    \b
    Example:
      hybridjobs budget mirror arn:aws:braket:us-east-1::device/qpu/ionq/Forte-1
    """
    from pl_hybridjobs.braket.limits import mirror
    from pl_hybridjobs.cost.account import of_user

    account = of_user()
    if account.limits.usd is None:
        raise click.UsageError("The budget has no limit of dollars to tell; `hybridjobs budget set --max-usd 50` sets one.")
    limit = mirror(device, account.limits.usd - account.cost().usd)
    click.echo(f"{limit.arn}: {limit.usd} USD on {device}, {limit.spent_usd} USD of it spent")


@cli.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
def rm(names: tuple[str, ...], yes: bool) -> None:
    """Delete jobs with all their files: logs, metrics, checkpoints, results.

    \b
    Example:
      hybridjobs rm vqe-2 vqe-3
    """
    from pl_hybridjobs.jobs.handle import Job
    from pl_hybridjobs.jobs.store import Store

    jobs = [Job(Store().find(name)) for name in names]  # not opened: one that is damaged can be deleted, too
    if not yes:
        click.confirm(f"Delete {', '.join(facts.summary(job)['name'] for job in jobs)} with all their files?", abort=True)
    for job in jobs:
        job_name = facts.summary(job)["name"]
        job.remove()
        click.echo(f"deleted {job_name}")


@cli.group(invoke_without_command=True)
@_JSON
@click.pass_context
def prices(ctx: click.Context, as_json: bool) -> None:
    """Show what devices cost, as far as it is known here, with the date of each price.

    \b
    Example:
      hybridjobs prices
      hybridjobs prices update
    """
    if ctx.invoked_subcommand is not None:
        return
    from pl_hybridjobs.cost.forecast import unit_prices
    from pl_hybridjobs.cost.prices import all_prices

    found = all_prices()
    if as_json:
        click.echo(json.dumps({device: price and price.__dict__ for device, price in found.items()}, indent=1, default=str))
    else:
        click.echo("\n".join(unit_prices(list(found.items()))))


@prices.command("update")
@click.option("--url", help="Where the price list is; default: Amazon's.")
def prices_update(url: str | None) -> None:
    """Fetch Amazon Braket's live price list and keep it in the home folder, where it comes before the packaged one.

    \b
    Example:
      hybridjobs prices update
    """
    from pl_hybridjobs.cost import offers
    from pl_hybridjobs.cost.prices import updated_file
    from pl_hybridjobs.jobs.durable import dump_json, write_bytes

    entries = offers.parse(offers.fetch(url))
    path = updated_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_bytes(path, dump_json(entries))
    click.echo(
        f"The prices of {len(entries)} devices are now those of {next(iter(entries.values()))['date'] or 'an unknown date'}, in {path}."
    )


@cli.command()
@click.argument("target", metavar="FILE[:FUNC]")
@click.option("--arg", "args", multiple=True, metavar="NAME=VALUE", help="An argument; repeat for more.")
@click.option("--device", help="A PennyLane device.")
@click.option("--include", multiple=True, metavar="PATH", help="A module, file or folder that must travel along.")
@click.option("--forecast", is_flag=True, help="Also run the function here up to its first train(), which says what it will buy.")
@_JSON
def plan(target: str, args: tuple[str, ...], forecast: bool, as_json: bool, **given: Any) -> None:
    """Say what would be sent and where; nothing is submitted or bought.

    \b
    Example:
      hybridjobs plan train.py:vqe --arg steps=100 --forecast
    """
    import dataclasses

    from pl_hybridjobs.jobs.script import prepared_script

    path, entry_point = _split_target(target)
    with prepared_script(path, entry_point, dict(_pairs(args, "--arg")), _options(given)) as (function, call_args, call_kwargs):
        made = (function.forecast if forecast else function.plan)(*call_args, **call_kwargs)
    click.echo(json.dumps(dataclasses.asdict(made), indent=1) if as_json else str(made))


@cli.command()
@_JSON
def doctor(as_json: bool) -> None:
    """Say what is installed and usable, where jobs live, what is broken and how to mend it."""
    from pl_hybridjobs.cli.doctor import examine

    findings = examine()
    if as_json:
        click.echo(json.dumps([finding.__dict__ for finding in findings], indent=1))
    else:
        render.findings(findings)
    sys.exit(1 if any(finding.state == "broken" for finding in findings) else 0)


@cli.command()
@click.argument("target", metavar="FILE[:FUNC]")
@click.option("--arg", "args", multiple=True, metavar="NAME=VALUE", help="An argument; repeat for more.")
@click.option("--device", help="A PennyLane device, or the Amazon resource name of one of Braket's.")
@click.option("--name", help="The job's name.")
@click.option("--input", "inputs", multiple=True, metavar="[CHANNEL=]PATH", help="An input file or folder; repeat for more.")
@click.option("--include", multiple=True, metavar="PATH", help="A module, file or folder that must travel along; repeat for more.")
@click.option("--timeout", "timeout_s", type=float, metavar="SECONDS", help="Stop an attempt after this time.")
@click.option("--instance", "instance_type", default="ml.m5.large", show_default=True, help="Which instance it is to run on.")
@click.option("--image", "image_uri", help="An image of your own in Amazon ECR.")
@click.option("--faults", default="", metavar="NAME=CHANCE,...", help="What goes wrong, for example throttle=0.1,drop=0.05.")
@_limits
def rehearse(target: str, args: tuple[str, ...], instance_type: str, image_uri: str | None, faults: str, **given: Any) -> None:
    """Run a job as on Amazon Braket, against the emulator, and say what Amazon would have refused, how long it took, what it costs.

    \b
    Example:
      hybridjobs rehearse train.py:vqe --arg steps=5
    """
    from pl_hybridjobs.braket.rehearsal import RehearsalRunner, report
    from pl_hybridjobs.jobs.script import submit_script

    path, entry_point = _split_target(target)
    runner = RehearsalRunner(instance_type=instance_type, image_uri=image_uri, faults=faults)
    job = submit_script(path, entry_point, dict(_pairs(args, "--arg")), **{**_options(given), "runner": runner})
    click.echo(f"{job.name} ({job.id})", err=True)
    try:
        _follow(job)
    finally:
        click.echo(str(report(job)), err=True)


@cli.command()
@click.argument("arn")
@click.option("--profile", default="", help="Of the AWS configuration files.")
def attach(arn: str, profile: str) -> None:
    """Make a job here of a job on Amazon Braket that another machine submitted with this package; prints its name.

    \b
    Example:
      hybridjobs logs -f $(hybridjobs attach arn:aws:braket:us-east-1:123456789012:job/...)
    """
    from pl_hybridjobs.braket.attach import attach as attach_to

    click.echo(attach_to(arn, profile=profile).name)


cli.add_command(dashboard)
cli.add_command(emulator)
cli.add_command(image)
cli.add_command(ray)


def _open(name: str) -> Job:
    from pl_hybridjobs.jobs.handle import open_job

    return open_job(name)


def _open_sweep(name: str) -> Sweep:
    from pl_hybridjobs.jobs.sweep import open_sweep

    return open_sweep(name)


def _open_either(name: str) -> Job | Sweep:
    """A job, or the sweep of which this is the id or its beginning: the ids of its own jobs may begin so too, those of others not."""
    from pl_hybridjobs.jobs.handle import list_jobs

    try:
        return _open(name)
    except (JobNotFound, AmbiguousName) as not_one_job:
        try:
            sweep = _open_sweep(name)
        except (JobNotFound, AmbiguousName):
            raise not_one_job from None
        if not all(sweep.submitted(job.id) for job in list_jobs() if job.id.startswith(name)):
            raise
        return sweep


def _resume_sweep(sweep: Sweep, limits: Budget, *, detach: bool) -> None:
    sweep.resume(budget=limits)
    click.echo(f"sweep {sweep.id}, {sweep.summary()}", err=True)
    if detach:
        return
    _interruptible(sweep.wait)
    click.echo(str(sweep.table()))
    sys.exit(max((_exit_code(job) for job in sweep.jobs), default=0))


def _split_target(target: str) -> tuple[str, str | None]:
    path, colon, function = target.partition(":")
    if colon and not function:
        raise click.UsageError(f"{target!r} ends in a colon; give FILE:FUNC, or FILE alone to run it as a script.")
    return path, function or None


def _pairs(given: Sequence[str], option: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} {text!r} must look like NAME=VALUE.")
        if name in dict(pairs):
            raise click.UsageError(f"{option} gives {name!r} twice.")
        pairs.append((name, value))
    return pairs


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """What was given on the command line, as keywords of ``hybrid_job``; what was not is left to the function's own options."""
    options = {name: given[name] for name in ("device", "runner", "name", "retries", "key") if given.get(name) is not None}
    if given.get("include"):
        options["include"] = given["include"]
    if given.get("tags"):
        options["tags"] = dict(_pairs(given["tags"], "--tag"))
    if given.get("inputs"):
        options["inputs"] = {c or "input": p for c, e, p in (t.partition("=") if "=" in t else ("", "", t) for t in given["inputs"])}
    if given.get("mirrors"):
        options["mirror"] = {tracker: place or None for tracker, _, place in (text.partition("=") for text in given["mirrors"])}
    if limits := _budget(given):
        options["budget"] = limits
    resources = {name: given[name] for name in ("timeout_s", "memory_mb", "threads") if given.get(name) is not None}
    return {**options, **({"resources": resources} if resources else {})}


def _budget(given: dict[str, Any]) -> Budget:
    """The limits that were given on the command line."""
    from pl_hybridjobs.cost.budget import Budget

    names = ("max_usd", "max_tasks", "max_shots", "max_time_s")
    try:
        return Budget.of({name: given[name] for name in names if given.get(name) is not None})
    except ValueError as error:
        raise InvalidCall("budget", str(error).splitlines()) from None


def _where() -> str:
    from pl_hybridjobs.cost.account import is_emulated

    return " at emulators" if is_emulated() else ""


def _age_s(text: str, option: str = "--since") -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        return float(text[:-1]) * units[text[-1]]
    except (KeyError, ValueError, IndexError):
        raise click.UsageError(f"{option} {text!r} must be a number and a unit: 90s, 30m, 12h or 7d.") from None


def _follow(job: Job) -> None:
    """Print the log until the job is over, say how it ended, and exit with its fate."""

    def lines() -> None:
        for text in job.logs(follow=True):
            click.echo(text)

    _interruptible(lines, job)
    state = job.state()
    error = job.exception(0)
    click.echo(plain(f"{job.name}: {state.status}" + (f" ({state.detail})" if state.detail else "")), err=True)
    if error is not None and not state.status.is_final:
        click.echo(f"Go on with: hybridjobs resume {job.name}", err=True)
    sys.exit(_exit_code(job))


def _follow_metrics(job: Job, names: tuple[str, ...]) -> None:
    def lines() -> None:
        for row in job.metrics(*names, follow=True):
            click.echo(f"{line(row.name)}  step {row.step}  {row.value:.10g}")

    _interruptible(lines, job)
    sys.exit(_exit_code(job))


def _interruptible(action: Callable[[], object], job: Job | None = None) -> None:
    try:
        action()
    except KeyboardInterrupt:
        if job is not None:
            click.echo(f"\n{job.name} goes on. Come back with: hybridjobs logs -f {job.name}", err=True)
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


def _exit_code(job: Job) -> int:
    return EXIT_OF.get(job.status, 5)


def _code_of_error(error: HybridJobsError) -> int:
    if isinstance(error, InvalidCall | JobNotFound | AmbiguousName | PackingError):
        return EXIT_USAGE
    return EXIT_NOT_OVER if isinstance(error, ResultNotReady) else EXIT_ERROR


def _strict(row: dict[str, Any]) -> dict[str, Any]:
    from pl_hybridjobs.jobs.metric_lines import strict_number

    return {name: strict_number(v) if isinstance(v, float) else v for name, v in row.items()}


def _print_job(job: Job, as_json: bool) -> None:
    click.echo(json.dumps({"name": job.name, "id": job.id, "folder": str(job.folder)}) if as_json else job.name)
