"""The audit log in the forms that others read: DICOM Audit Messages (PS3.15 A.5) and FHIR R4 AuditEvent.

Both follow one table, in which each event of the log has the message of PS3.15 A.5.3 that comes nearest:

===========  ===============================================  ==================================================
event        message                                          what takes part
===========  ===============================================  ==================================================
release      110106 Export                                    study with its instance, patient; to media
quarantine   110106 Export, which failed (8)                  the same, as far as known
seal         110103 DICOM Instances Accessed, update          study, patient; encrypted from now on
unseal       110103 DICOM Instances Accessed, read            study, patient
reidentify   110103 DICOM Instances Accessed, read            study, patient; not anonymized from now on
lookup       110112 Query                                     crosswalk, asked by blind index
key          110113 Security Alert, 110135                    key box
crosswalk    110113 Security Alert, 110132                    crosswalk
checkpoint   110101 Audit Log Used                            the log
start        110100 Application Activity, 110120              the application
recover      110113 Security Alert (minor failure), 110134    the log
===========  ===============================================  ==================================================

Patients and studies are named by pseudonyms and new UIDs: no line of the log holds any other.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from collections.abc import Iterator
from enum import Enum
from html import escape
from typing import Any, Final, NamedTuple

from .audit_lines import Value
from .audit_verification import Entry, entries

__all__ = ["Form", "export"]


class Form(Enum):
    """What a log is exported as."""

    DICOM = "dicom"
    FHIR = "fhir"


class _Code(NamedTuple):
    """A coded value."""

    value: str
    meaning: str
    scheme: str = "DCM"


class _Kind(NamedTuple):
    """The message that an event becomes."""

    event: _Code
    action: str
    type: _Code | None = None
    outcome: int = 0
    anonymized: bool = True


_ACCESSED: Final = _Code("110103", "DICOM Instances Accessed")
_ALERT: Final = _Code("110113", "Security Alert")
_EXPORT: Final = _Code("110106", "Export")
_QUERY: Final = _Code("110112", "Query")
_USED: Final = _Code("110101", "Audit Log Used")
_ACTIVITY: Final = _Code("110100", "Application Activity")
_KINDS: Final = {
    "release": _Kind(_EXPORT, "R"),
    "quarantine": _Kind(_EXPORT, "R", outcome=8),
    "seal": _Kind(_ACCESSED, "U"),
    "unseal": _Kind(_ACCESSED, "R"),
    "reidentify": _Kind(_ACCESSED, "R", anonymized=False),
    "lookup": _Kind(_QUERY, "E"),
    "key": _Kind(_ALERT, "E", _Code("110135", "Object Security Attributes Changed")),
    "crosswalk": _Kind(_ALERT, "E", _Code("110132", "Use of Restricted Function")),
    "checkpoint": _Kind(_USED, "R"),
    "start": _Kind(_ACTIVITY, "E", _Code("110120", "Application Start")),
    "recover": _Kind(_ALERT, "E", _Code("110134", "Audit Recording Started"), outcome=4),
}

_APPLICATION: Final = _Code("110150", "Application")
_DESTINATION: Final = _Code("110152", "Destination Role ID")
_SOURCE: Final = _Code("110153", "Source Role ID")
_MEDIA: Final = _Code("110154", "Destination Media")
_URI_MEDIA: Final = _Code("110037", "URI")
_STUDY_UID: Final = _Code("110180", "Study Instance UID")
_PATIENT_NUMBER: Final = _Code("2", "Patient Number", "RFC-3881")
_SEARCH: Final = _Code("10", "Search Criteria", "RFC-3881")
_URI: Final = _Code("12", "URI", "RFC-3881")

_PROCESS: Final = "dicomshield"
_URN: Final = "urn:dicomshield:"
_UNKNOWN: Final = "unknown"
_LOG_NAME: Final = "Security Audit Log"
"""What PS3.15 A.5.3.2 wants an audit log to be called."""


class _Participant(NamedTuple):
    """Who took part."""

    user: str
    requestor: bool
    role: _Code | None
    media: bool = False


class _Thing(NamedTuple):
    """What took part; ``type`` and ``role`` by PS3.15 A.5.1.2."""

    name: str
    code: _Code
    type: int
    role: int
    life_cycle: int = 0
    title: str = ""
    query: bytes = b""
    study: bool = False


def export(log_path: str | os.PathLike[str], form: Form) -> Iterator[str]:
    """Translate a log, one message for each line; verify it first.

    Parameters
    ----------
    log_path : path-like
    form : Form

    Yields
    ------
    str
        An XML document without declaration, or a JSON object, on one line.

    Raises
    ------
    VaultError
        If a line holds anything that no log holds.
    """
    write = _dicom if form is Form.DICOM else _fhir
    origin = _UNKNOWN
    for entry in entries(log_path):
        # the first line says whose log it is
        origin = str(entry.fields.get("origin", origin))
        yield write(entry, origin)


def _participants(entry: Entry) -> list[_Participant]:
    """Say who took part: the process, who stood behind it if a key says so, and the far side."""
    event = _KINDS[entry.event].event
    role = {_EXPORT: _SOURCE, _QUERY: _SOURCE, _ACTIVITY: _APPLICATION}.get(event)
    people = _several(entry.fields.get("identity"))
    found = [_Participant(_PROCESS, not people, role)]
    # no more than one may be the requestor (A.5.2)
    found += [_Participant(one, not at, role) for at, one in enumerate(people)]
    if event is _EXPORT:
        found.append(_Participant(f"{_URN}released", False, _MEDIA, media=True))
    if event is _QUERY:
        found.append(_Participant(f"{_URN}crosswalk", False, _DESTINATION))
    return found


def _things(entry: Entry) -> list[_Thing]:
    """Say what took part."""
    fields, event = entry.fields, _KINDS[entry.event].event
    patients = [_Thing(one, _PATIENT_NUMBER, 1, 1) for one in _several(fields.get("patient"))]
    if event in (_EXPORT, _ACCESSED):
        life_cycle = {"release": 10, "quarantine": 0}.get(entry.event, 6)
        studies = [
            _Thing(one, _STUDY_UID, 2, 3, life_cycle, study=True) for one in _several(fields.get("study")) or [_UNKNOWN]
        ]
        return studies + (patients or [_Thing(_UNKNOWN, _PATIENT_NUMBER, 1, 1)])
    if event is _QUERY:
        return [_Thing(f"{_URN}crosswalk", _SEARCH, 2, 3, 6, query=_asked(fields)), *patients]
    if entry.event == "key":
        boxes = _several(fields.get("kid")) or [_UNKNOWN]
        life_cycle = {"new": 1, "shred": 15}.get(str(fields["action"]), 3)
        return [_Thing(f"{_URN}key:{one}", _URI, 2, 13, life_cycle) for one in boxes] + patients
    if entry.event == "crosswalk":
        life_cycle = {"import": 2, "export": 10}.get(str(fields["action"]), 8)
        return [_Thing(f"{_URN}crosswalk", _URI, 2, 13, life_cycle), *patients]
    return [] if event is _ACTIVITY else [_Thing(f"{_URN}audit", _URI, 2, 13, title=_LOG_NAME)]


def _asked(fields: dict[str, Value]) -> bytes:
    """Return what was asked, as the line has it: a blind index, never the identifier."""
    return json.dumps(fields, sort_keys=True).encode()


def _several(value: Value | None) -> list[str]:
    if value is None:
        return []
    return value if isinstance(value, list) else [str(value)]


def _details(entry: Entry) -> list[tuple[str, str]]:
    """Return all fields, and the number of the line that vouches for them."""
    found = [(name, one) for name, value in entry.fields.items() for one in _several(value)]
    return [("line", str(entry.number)), *found]


# DICOM


def _tag(name: str, attributes: dict[str, str], *content: str) -> str:
    spelled = "".join(f' {key}="{escape(value)}"' for key, value in attributes.items())
    return f"<{name}{spelled}>{''.join(content)}</{name}>" if content else f"<{name}{spelled}/>"


def _coded(name: str, code: _Code) -> str:
    return _tag(name, {"csd-code": code.value, "codeSystemName": code.scheme, "originalText": code.meaning})


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _dicom(entry: Entry, origin: str) -> str:
    kind = _KINDS[entry.event]
    said = [_coded("EventID", kind.event)]
    if kind.type:
        said.append(_coded("EventTypeCode", kind.type))
    if kind.outcome:
        said.append(_tag("EventOutcomeDescription", {}, escape(_outcome(entry))))
    identification = {
        "EventActionCode": kind.action,
        "EventDateTime": entry.time,
        "EventOutcomeIndicator": str(kind.outcome),
    }
    return _tag(
        "AuditMessage",
        {},
        _tag("EventIdentification", identification, *said),
        *map(_dicom_participant, _participants(entry)),
        _tag("AuditSourceIdentification", {"AuditSourceID": origin}, _tag("AuditSourceTypeCode", {"csd-code": "4"})),
        *[_dicom_thing(thing, entry) for thing in _things(entry)],
    )


def _outcome(entry: Entry) -> str:
    return ", ".join(_several(entry.fields.get("reason"))) or entry.event


def _dicom_participant(one: _Participant) -> str:
    content = [_coded("RoleIDCode", one.role)] if one.role else []
    if one.media:
        content.append(_tag("MediaIdentifier", {}, _coded("MediaType", _URI_MEDIA)))
    return _tag("ActiveParticipant", {"UserID": one.user, "UserIsRequestor": _truth(one.requestor)}, *content)


def _dicom_thing(thing: _Thing, entry: Entry) -> str:
    attributes = {
        "ParticipantObjectID": thing.name,
        "ParticipantObjectTypeCode": str(thing.type),
        "ParticipantObjectTypeCodeRole": str(thing.role),
    }
    if thing.life_cycle:
        attributes["ParticipantObjectDataLifeCycle"] = str(thing.life_cycle)
    content = [_coded("ParticipantObjectIDTypeCode", thing.code)]
    # the schema asks for one of both, also where there is no name to give
    if thing.query:
        content.append(_tag("ParticipantObjectQuery", {}, b64encode(thing.query).decode()))
    else:
        content.append(_tag("ParticipantObjectName", {}, escape(thing.title or thing.name)))
    if thing.type == 2:
        content += [_detail(name, value) for name, value in _details(entry)]
    if thing.role == 13 and _KINDS[entry.event].event is _ALERT:
        content.append(_detail("Alert Description", f"{entry.event} {entry.fields.get('action', '')}".strip()))
    if thing.study:
        content.append(_description(entry))
    return _tag("ParticipantObjectIdentification", attributes, *content)


def _detail(name: str, value: str) -> str:
    return _tag("ParticipantObjectDetail", {"type": name, "value": b64encode(value.encode()).decode()})


def _description(entry: Entry) -> str:
    """Describe the objects of a study: their class and new UIDs, and how they are protected."""
    instances = _several(entry.fields.get("instance"))
    attributes = {"NumberOfInstances": str(len(instances) or 1)}
    for uid in _several(entry.fields.get("sop_class"))[:1]:
        attributes["UID"] = uid
    return _tag(
        "ParticipantObjectDescription",
        {},
        _tag("SOPClass", attributes, *[_tag("Instance", {"UID": uid}) for uid in instances]),
        _tag("Encrypted", {}, _truth(_encrypted(entry))),
        _tag("Anonymized", {}, _truth(_KINDS[entry.event].anonymized)),
    )


def _encrypted(entry: Entry) -> bool:
    """Say whether what came of it is encrypted: a release is if it was sealed under a key."""
    return entry.event == "seal" or (entry.event == "release" and "kid" in entry.fields)


# FHIR

_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_HL7: Final = "http://terminology.hl7.org/CodeSystem/"


def _coding(code: _Code) -> dict[str, str]:
    return {"system": _DCM, "code": code.value, "display": code.meaning}


def _fhir(entry: Entry, origin: str) -> str:
    kind = _KINDS[entry.event]
    event: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "type": _coding(kind.event),
        "action": kind.action,
        "recorded": entry.time,
        "outcome": str(kind.outcome),
        "agent": [_agent(one) for one in _participants(entry)],
        "source": {
            "observer": {"identifier": {"value": origin}},
            "type": [{"system": f"{_HL7}security-source-type", "code": "4", "display": "Application Server"}],
        },
    }
    if kind.type:
        event["subtype"] = [_coding(kind.type)]
    if kind.outcome:
        event["outcomeDesc"] = _outcome(entry)
    things = [_entity(thing, entry) for thing in _things(entry)]
    if things:
        event["entity"] = things
    return json.dumps(event, separators=(",", ":"))


def _agent(one: _Participant) -> dict[str, Any]:
    agent: dict[str, Any] = {"requestor": one.requestor, "who": {"identifier": {"value": one.user}}}
    if one.role:
        agent["type"] = {"coding": [_coding(one.role)]}
    if one.media:
        agent["media"] = _coding(_URI_MEDIA)
    return agent


def _entity(thing: _Thing, entry: Entry) -> dict[str, Any]:
    identifier = {"value": thing.name}
    if thing.study and thing.name != _UNKNOWN:
        identifier = {"system": "urn:dicom:uid", "value": f"urn:oid:{thing.name}"}
    entity: dict[str, Any] = {
        "what": {"identifier": identifier},
        "type": {"system": f"{_HL7}audit-entity-type", "code": str(thing.type)},
        "role": {"system": f"{_HL7}object-role", "code": str(thing.role)},
    }
    if thing.life_cycle:
        entity["lifecycle"] = {"system": f"{_HL7}dicom-audit-lifecycle", "code": str(thing.life_cycle)}
    if thing.study and _KINDS[entry.event].anonymized:
        entity["securityLabel"] = [
            {"system": f"{_HL7}v3-ObservationValue", "code": "PSEUDED", "display": "pseudonymized"}
        ]
    if thing.query:
        entity["query"] = b64encode(thing.query).decode()
    elif thing.title:
        entity["name"] = thing.title
    if thing.type == 2:
        entity["detail"] = [{"type": name, "valueString": value} for name, value in _details(entry)]
    return entity
