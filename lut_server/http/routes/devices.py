"""Devices: registered by their agents."""

from __future__ import annotations

from fastapi import APIRouter, Response

from lut_server.http.requests import Body, NewDevice, parse_body
from lut_server.http.responses import DeviceAnswer, DeviceDetailAnswer, DevicesAnswer, DeviceWithTables, answer
from lut_server.http.services import Agent, Reader, StoreHere, documented
from shared.device_status import DeviceStatus

router = APIRouter(prefix="/v1/devices", tags=["devices"])


@router.post(
    "",
    summary="Register a device, or renew what is known of it",
    **documented({201: DeviceAnswer, 200: DeviceAnswer}, "conflict", role="agent", body=NewDevice),
)
def register(principal: Agent, store: StoreHere, body: Body) -> Response:
    new = parse_body(NewDevice, body)
    principal.require_device(new.name)
    device, is_new = store.devices.register(new.name, new.probe, principal.token_id)
    return answer(DeviceAnswer(device), 201 if is_new else 200)


@router.get("", summary="All devices", **documented({200: DevicesAnswer}))
def list_devices(principal: Reader, store: StoreHere) -> Response:
    own = principal.which_device(None)
    return answer(DevicesAnswer(tuple(device for device in store.devices.list() if own in (None, device.name))))


@router.put(
    "/{name}/status",
    summary="Say how a device is, and how far a campaign on it",
    **documented({200: DeviceAnswer}, "unknown_device", role="agent", body=DeviceStatus),
)
def report(name: str, principal: Agent, store: StoreHere, body: Body) -> Response:
    principal.require_device(name)
    return answer(DeviceAnswer(store.devices.report(name, parse_body(DeviceStatus, body))))


@router.get("/{name}", summary="A device and its tables", **documented({200: DeviceDetailAnswer}, "unknown_device"))
def get_device(name: str, principal: Reader, store: StoreHere) -> Response:
    principal.require_device(name)
    device = store.devices.get(name)
    return answer(DeviceDetailAnswer(DeviceWithTables(**vars(device), tables=store.tables.list(name))))
