"""The job queue in the database."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, func, insert, or_, select, update

from lut_server import error_codes
from lut_server.clock import stamp
from lut_server.store import schema
from lut_server.store.database import DatabaseStore
from lut_server.store.sql.devices import note_asked, require_device, touch_device
from shared.device_status import DeviceStatus
from shared.jobs import Job, JobResult, NewJob, Verification
from shared.wire import canonical_json, from_wire

MAX_ATTEMPTS = 3
MOST_QUEUED, MOST_QUEUED_OF_TOKEN = 1000, 5000
SERVED_WITHIN_S = 60.0
"""Agents ask every few seconds and send heartbeats: after so long without, nobody serves."""
_JOBS = schema.jobs.c
_QUERY = select(schema.jobs, schema.devices.c.last_asked_at).join(schema.devices)
_UNLEASED: dict[str, Any] = {"lease_owner": None, "lease_until": None}


class JobStore(DatabaseStore):
    """The queue. A job is queued, leased, and then done, failed, dead or cancelled.

    Each lease is an attempt. A lease that ran out, or whose owner asks for work again, frees the
    job; after `max_attempts` leases it is dead. Every method first frees the leases that have run
    out. However many servers and threads ask, a job is leased to one owner at a time.
    """

    def add(self, job: NewJob, token: str | None = None) -> Job:
        """Queue a job (unknown_device; conflict: the device's queue is full, or the token's)."""
        values = {**self._row_of(job), "token": token}
        with self._database.write() as connection:
            require_device(connection, job.device)
            _require_room(connection, job.device, token)
            connection.execute(insert(schema.jobs).values(values))
            return self._read(connection, values["id"])

    def add_once(self, job: NewJob) -> tuple[Job, bool]:
        """Queue a job unless the same is open; returns it and whether it is new."""
        values = self._row_of(job)
        same = (_JOBS.device == job.device, _JOBS.content == values["content"], _JOBS.state.in_(("queued", "leased")))
        with self._database.write() as connection:
            require_device(connection, job.device)
            # Who asks for the same waits here, and finds the job of whoever was first.
            connection.execute(
                select(schema.devices).where(schema.devices.c.name == job.device).with_for_update(key_share=True)
            )
            known = connection.scalar(select(_JOBS.id).where(*same).limit(1))
            if known is None:
                _require_room(connection, job.device)
                connection.execute(insert(schema.jobs).values(values))
            return self._read(connection, known or values["id"]), known is None

    def _row_of(self, job: NewJob) -> dict[str, Any]:
        return {
            "id": uuid4().hex,
            "device": job.device,
            "content": canonical_json(job).decode(),
            "state": "queued",
            "attempts": 0,
            "max_attempts": MAX_ATTEMPTS,
            "priority": job.priority,
            "created_at": stamp(self._clock()),
        }

    def get(self, job_id: str) -> Job:
        """The job (unknown_job)."""
        self._free_lost_leases()
        with self._database.read() as connection:
            return self._read(connection, job_id)

    def list(
        self,
        device: str | None = None,
        state: str | None = None,
        newest_first: bool = False,
        offset: int = 0,
        limit: int | None = None,
    ) -> tuple[Job, ...]:
        """Jobs, of one device or in one state if given, the oldest first: `limit` of them after the first `offset`."""
        self._free_lost_leases()
        query = _QUERY.order_by(_JOBS.number.desc() if newest_first else _JOBS.number).offset(offset).limit(limit)
        if device is not None:
            query = query.where(_JOBS.device == device)
        if state is not None:
            query = query.where(_JOBS.state == state)
        with self._database.read() as connection:
            return tuple(_job(row, self._clock()) for row in connection.execute(query))

    def counts(self) -> dict[str, Counter[str]]:
        """How many jobs each device has in each state."""
        self._free_lost_leases()
        query = select(_JOBS.device, _JOBS.state, func.count()).group_by(_JOBS.device, _JOBS.state)
        found: dict[str, Counter[str]] = {}
        with self._database.read() as connection:
            for device, state, number in connection.execute(query):
                found.setdefault(device, Counter())[state] = number
        return found

    def unserved(self) -> tuple[str, ...]:
        """Devices with queued jobs that no agent asks for."""
        last_asked = schema.devices.c.last_asked_at
        asked = last_asked >= stamp(self._clock() - timedelta(seconds=SERVED_WITHIN_S))
        query = select(_JOBS.device).distinct().join(schema.devices).order_by(_JOBS.device)
        with self._database.read() as connection:
            return tuple(connection.scalars(query.where(_JOBS.state == "queued", or_(last_asked.is_(None), ~asked))))

    def lease(self, device: str, owner: str, lease_s: float, status: DeviceStatus | None = None) -> Job | None:
        """The queued job of the device with the highest priority, then the oldest, leased to
        `owner`.

        None if there is none (unknown_device). `status` is kept as the device's.
        """
        now = self._clock()
        with self._database.write() as connection:
            require_device(connection, device)
            _free_lost(connection, now)
            # An owner that asks for work is not working: what it still holds, it has forgotten.
            _free(connection, _JOBS.device == device, _JOBS.lease_owner == owner)
            queued = select(_JOBS.id, _JOBS.attempts).where(_JOBS.device == device, _JOBS.state == "queued")
            first = queued.order_by(_JOBS.priority.desc(), _JOBS.number).limit(1).with_for_update(skip_locked=True)
            row = connection.execute(first).one_or_none()
            if row is not None:
                until = stamp(now + timedelta(seconds=lease_s))
                attempts = row.attempts + 1
                _set(connection, row.id, state="leased", attempts=attempts, lease_owner=owner, lease_until=until)
            note_asked(connection, device, stamp(now), status)
            return None if row is None else self._read(connection, row.id)

    def heartbeat(self, job_id: str, owner: str, lease_s: float, status: DeviceStatus | None = None) -> Job:
        """Extend a lease and keep `status` (unknown_job; conflict: the lease was lost)."""
        now = self._clock()
        self._free_lost_leases()
        with self._database.write() as connection:
            row = _get(connection, job_id, lock=True)
            if row.state != "leased" or row.lease_owner != owner:
                holder = f"leased to '{row.lease_owner}'" if row.state == "leased" else row.state
                raise error_codes.refused(
                    "conflict", f"job {job_id} is not leased to '{owner}' any more: it is {holder}"
                )
            _set(connection, job_id, lease_until=stamp(now + timedelta(seconds=lease_s)))
            note_asked(connection, row.device, stamp(now), status)
            return self._read(connection, job_id)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job that is not over (unknown_job; conflict: it is done, failed or dead)."""
        self._free_lost_leases()
        with self._database.write() as connection:
            row = _get(connection, job_id, lock=True)
            if row.state in ("done", "failed", "dead"):
                raise error_codes.refused("conflict", f"job {job_id} is {row.state} and cannot be cancelled")
            _set(connection, job_id, state="cancelled", **_UNLEASED)
            return self._read(connection, job_id)

    def requeue(self, job_id: str) -> Job:
        """Queue a failed, dead or cancelled job again (unknown_job; conflict: any other state)."""
        self._free_lost_leases()
        with self._database.write() as connection:
            row = _get(connection, job_id, lock=True)
            if row.state not in ("failed", "dead", "cancelled"):
                raise error_codes.refused("conflict", f"job {job_id} is {row.state}: there is nothing to do again")
            _set(connection, job_id, state="queued", attempts=0, reason=None, result=None, run=None, **_UNLEASED)
            return self._read(connection, job_id)

    def complete(self, job_id: str, result: JobResult, verification: Verification | None) -> Job:
        """Take a result, late ones too: from a lost lease, and after the attempts were used up.

        The same result again changes nothing; another one is a conflict, and so is one for a
        cancelled job.
        """
        content = canonical_json(result).decode()
        with self._database.write() as connection:
            row = _get(connection, job_id, lock=True)
            if row.result == content:
                return self._read(connection, job_id)
            if row.result is not None:
                raise error_codes.refused("conflict", f"job {job_id} has another result already")
            if row.state == "cancelled":
                raise error_codes.refused("conflict", f"job {job_id} was cancelled")
            _set(
                connection,
                job_id,
                state="done" if result.error is None else "failed",
                reason=result.error,
                result=content,
                run=result.run,
                verification=None if verification is None else canonical_json(verification).decode(),
                **_UNLEASED,
            )
            touch_device(connection, row.device, stamp(self._clock()))
            return self._read(connection, job_id)

    def find_result(self, job_id: str) -> JobResult | None:
        """What was handed in, raw values and all (unknown_job)."""
        with self._database.read() as connection:
            content = _get(connection, job_id).result
        return None if content is None else from_wire(JobResult, json.loads(content))

    def _read(self, connection: Connection, job_id: str) -> Job:
        return _job(_get(connection, job_id), self._clock())

    def _free_lost_leases(self) -> None:
        now = self._clock()
        lost = select(_JOBS.id).where(_JOBS.state == "leased", _JOBS.lease_until < stamp(now)).limit(1)
        with self._database.read() as connection:
            if connection.scalar(lost) is None:
                return
        with self._database.write() as connection:
            _free_lost(connection, now)


def _free_lost(connection: Connection, now: datetime) -> None:
    _free(connection, _JOBS.lease_until < stamp(now))


def _free(connection: Connection, *conditions: Any) -> None:
    """Queue leased jobs again, or give up on those whose attempts are used up."""
    # What another transaction holds right now is being freed, extended or completed by it.
    found = select(_JOBS.id, _JOBS.attempts, _JOBS.max_attempts, _JOBS.lease_owner)
    lost = found.where(_JOBS.state == "leased", *conditions).with_for_update(skip_locked=True)
    for row in connection.execute(lost).all():
        if row.attempts < row.max_attempts:
            _set(connection, row.id, state="queued", **_UNLEASED)
            continue
        reason = (
            f"given up after {row.attempts} attempts: each agent that took it went away without a result, "
            f"'{row.lease_owner}' as the last"
        )
        _set(connection, row.id, state="dead", reason=reason, **_UNLEASED)


def _require_room(connection: Connection, device: str, token: str | None = None) -> None:
    queued = select(func.count()).where(_JOBS.state == "queued")
    if (connection.scalar(queued.where(_JOBS.device == device)) or 0) >= MOST_QUEUED:
        raise error_codes.refused("conflict", f"{MOST_QUEUED} jobs of '{device}' are queued already; cancel some first")
    if token is not None and (connection.scalar(queued.where(_JOBS.token == token)) or 0) >= MOST_QUEUED_OF_TOKEN:
        problem = f"{MOST_QUEUED_OF_TOKEN} jobs of this token are queued already; cancel some first"
        raise error_codes.refused("conflict", problem)


def _set(connection: Connection, job_id: str, **values: Any) -> None:
    connection.execute(update(schema.jobs).where(_JOBS.id == job_id).values(**values))


def _get(connection: Connection, job_id: str, lock: bool = False) -> Row[Any]:
    query = _QUERY.where(_JOBS.id == job_id)
    row = connection.execute(query.with_for_update(of=schema.jobs) if lock else query).one_or_none()
    if row is None:
        raise error_codes.refused("unknown_job", f"no job has the id '{job_id[:80]}'")
    return row


def _notice(row: Row[Any], now: datetime) -> str | None:
    if row.state != "queued" or (row.last_asked_at or "") >= stamp(now - timedelta(seconds=SERVED_WITHIN_S)):
        return None
    asked = f"since {row.last_asked_at}" if row.last_asked_at else "yet"
    return (
        f"no agent has asked for work of '{row.device}' {asked}; "
        f"start one there: profiler-agent work --lut-url URL --device {row.device}"
    )


def _job(row: Row[Any], now: datetime) -> Job:
    return Job(
        id=row.id,
        job=from_wire(NewJob, json.loads(row.content)),
        state=row.state,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        created_at=row.created_at,
        lease_owner=row.lease_owner,
        lease_until=row.lease_until,
        reason=row.reason,
        verification=None if row.verification is None else from_wire(Verification, json.loads(row.verification)),
        run=row.run,
        notice=_notice(row, now),
    )
