"""Schedules of `aai deploy` and of Kubernetes, in the notation of cron."""

import asyncio

from aai.errors import BadConfig


def check_schedule(schedule: str, key: str) -> None:
    """Check that a text is a schedule and that its time comes.

    Raises:
        BadConfig: it is none, or its day does not exist; `key` is the option that has it.
    """
    from prefect.server.schemas.schedules import CronSchedule

    try:
        parsed = CronSchedule(cron=schedule)
    except ValueError as error:
        reason = "is no schedule: give minute, hour, day, month and weekday, such as '0 2 * * *'"
        raise BadConfig(f"{schedule!r} {reason}", key=key) from error
    try:
        asyncio.run(parsed.get_dates(1))
    except ValueError as error:
        raise BadConfig(
            f"{schedule!r} never comes: no such month has this day, or its year is over", key=key
        ) from error
