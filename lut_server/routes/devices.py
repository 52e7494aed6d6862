"""Devices: registered by their agents."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response

from lut_server.answers import DeviceAnswer, DeviceDetailAnswer, DevicesAnswer, DeviceWithTables, answer
from lut_server.bodies import NewDevice, parse_body
from lut_server.services import READ, Agent, Body, StoreHere, documented

router = APIRouter(prefix="/v1/devices", tags=["devices"])


@router.post(
    "",
    summary="Register a device, or renew what is known of it",
    **documented({201: DeviceAnswer, 200: DeviceAnswer}, role="agent", body=NewDevice),
)
def register(principal: Agent, store: StoreHere, body: Body) -> Response:
    new = parse_body(NewDevice, body)
    principal.require_device(new.name)
    device, is_new = store.devices.register(new.name, new.probe)
    return answer(DeviceAnswer(device), 201 if is_new else 200)


@router.get("", summary="All devices", dependencies=[Depends(READ)], **documented({200: DevicesAnswer}))
def list_devices(store: StoreHere) -> Response:
    return answer(DevicesAnswer(store.devices.list()))


@router.get(
    "/{name}",
    summary="A device and its tables",
    dependencies=[Depends(READ)],
    **documented({200: DeviceDetailAnswer}, "unknown_device"),
)
def get_device(name: str, store: StoreHere) -> Response:
    device = store.devices.get(name)
    return answer(DeviceDetailAnswer(DeviceWithTables(**vars(device), tables=store.tables.list(name))))
