"""Schedules of `aai deploy` and of Kubernetes, in the notation of cron."""

from aai.errors import BadConfig


def check_schedule(schedule: str, key: str) -> None:
    """Check a schedule.

    Raises:
        BadConfig: it is none; `key` is the option that has it.
    """
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=schedule)
    except ValueError as error:
        reason = "is no schedule: give minute, hour, day, month and weekday, such as '0 2 * * *'"
        raise BadConfig(f"{schedule!r} {reason}", key=key) from error
