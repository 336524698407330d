"""Publishes a notification to SNS when a job ends.

The message is compact JSON in the order of real ones, without a JobTag if none was given, and has no
subject (O). Its Status is SUCCEEDED or FAILED; SUCCEEDED for a job of PARTIAL_SUCCESS is a choice (?)
among the documented values.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sqlite3
from collections.abc import Mapping
from typing import Any

from textract_local.server.failures import INVALID_PARAMETER, DiskFails, ServiceError
from textract_local.server.faults import NotificationFault
from textract_local.server.jobs.aws import AwsClients
from textract_local.server.jobs.records import AnalysisJob, JobStatus
from textract_local.server.jobs.store import NewNotification, Notification
from textract_local.server.jobs.thread import Clock, StoreThread
from textract_local.server.service_calls import BrokenOff, is_final, no_response_errors

logger = logging.getLogger(__name__)

_FIRST_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 60.0


def notification_of(
    job: AnalysisJob, status: JobStatus, ended: float, fault: NotificationFault | None
) -> NewNotification | None:
    """Return the notification of a job that ends at ``ended`` (seconds since 1970), None if none was requested."""
    channel = job.given.get("NotificationChannel")
    if channel is None:
        return None
    stored = job.location["S3Object"]
    message: dict[str, Any] = {
        "JobId": job.id,
        "Status": (JobStatus.FAILED if status is JobStatus.FAILED else JobStatus.SUCCEEDED).value,
        "API": job.operation,
    }
    if "JobTag" in job.given:
        message["JobTag"] = job.given["JobTag"]
    message["Timestamp"] = int(ended * 1000)
    message["DocumentLocation"] = {"S3ObjectName": stored["Name"], "S3Bucket": stored["Bucket"]}
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"))
    fault = fault or NotificationFault()
    return NewNotification(channel["SNSTopicArn"], text, ended + fault.seconds, fault.copies, fault.held)


class Notifier:
    """Sends the due notifications of the store one by one.

    A notification is sent once, and once more if SNS accepted it but its response was lost, or the process died
    before that was recorded. If SNS refuses it permanently, it is logged and dropped; if SNS does not respond, it is
    retried until the job expires.
    """

    def __init__(self, store: StoreThread, clients: AwsClients, clock: Clock) -> None:
        self._store = store
        self._clients = clients
        self._clock = clock
        self._changed = asyncio.Event()
        self._stopping = False

    async def check(self, given: Mapping[str, Any]) -> None:
        """Raise InvalidParameterException if the topic of a NotificationChannel does not exist (?).

        If SNS does not respond, the job may start: its notification is retried until SNS does.
        """
        channel = given.get("NotificationChannel")
        if channel is None:
            return
        try:
            problem = await self._clients.call(lambda: self._problem(channel["SNSTopicArn"]))
        except BrokenOff:
            logger.warning("SNS is too slow to be asked for the topic %s", channel["SNSTopicArn"])
            return
        if problem:
            raise ServiceError(INVALID_PARAMETER, problem)

    def look(self) -> None:
        """Make ``run`` check for due notifications now."""
        self._changed.set()

    def stop(self) -> None:
        """Let ``run`` return, after the notification that is being sent."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Send due notifications until stopped."""
        while not self._stopping:
            try:
                wait = await self._send_next()
            except (sqlite3.Error, DiskFails):
                logger.exception("notifications cannot be looked up or noted")
                wait = _LONGEST_RETRY_SECONDS
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), wait)
            self._changed.clear()

    async def _send_next(self) -> float | None:
        """Send the next due notification; return the seconds until the next check, None if none is queued."""
        now = self._clock()
        notification, due = await self._store.do(lambda store: store.next_notification(now))
        if notification is None:
            return None if due is None else max(0.0, due - now)
        await self._send(notification)
        return 0.0

    async def _send(self, notification: Notification) -> None:
        from botocore.exceptions import ClientError

        failures: tuple[type[Exception], ...] = (ClientError, *no_response_errors())
        try:
            await self._clients.call(lambda: self._publish(notification))
        except failures as error:
            if isinstance(error, ClientError) and is_final(error):
                logger.error("SNS refuses the notification of job %s: %s", notification.job_id, error)
                await self._store.do(lambda store: store.give_up(notification))
                return
            # The exponent is bounded, since there is no bound on the attempts.
            wait = min(_LONGEST_RETRY_SECONDS, _FIRST_RETRY_SECONDS * 2 ** min(notification.attempts, 10))
            logger.warning("the notification of job %s is tried again in %.1f s: %s", notification.job_id, wait, error)
            due = self._clock() + wait
            await self._store.do(lambda store: store.postpone(notification, due))
            return
        await self._store.do(lambda store: store.sent(notification))
        logger.info("job %s is notified to %s", notification.job_id, notification.topic)

    def _publish(self, notification: Notification) -> None:
        self._clients.sns(notification.topic).publish(TopicArn=notification.topic, Message=notification.message)

    def _problem(self, topic: str) -> str:
        from botocore.exceptions import ClientError

        try:
            self._clients.sns(topic).get_topic_attributes(TopicArn=topic)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"NotFound", "NotFoundException", "InvalidParameter"}:
                return f"the topic cannot be notified: {error}"
            logger.warning("the topic %s cannot be looked at: %s", topic, error)
        except no_response_errors() as error:
            logger.warning("SNS cannot be asked for the topic %s: %s", topic, error)
        return ""
