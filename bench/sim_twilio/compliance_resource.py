"""RegulatoryCompliance and Trust Hub: containers, what is put into them, evaluation, review.

Both products have one form: a container (`Bundles`; `CustomerProfiles`, `TrustProducts`) is made, items (end
users, supporting documents, approved containers) are assigned to it, it is evaluated, then submitted. People
at Twilio review it: here `approve` and `reject` are their levers. Source: Twilio, "Regulatory compliance",
"Trust Hub REST API", and the OpenAPI documents of numbers v2 and trusthub v1.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench.sim_twilio.account import new_sid
from bench.sim_twilio.market import COUNTRIES
from bench.sim_twilio.rest_error import RestError

if TYPE_CHECKING:
    from bench.sim_twilio.sim import TwilioSim

REGULATORY = "/v2/RegulatoryCompliance"
TRUST_HUB = "/v1"
SECONDARY_PROFILE = "RNdfbf3fae0e1107f8aded0e7cead80bf5"
SHAKEN = "RN7a97559effdf62d00f4298208492a5ea"
CNAM = "RNf3db3cd1fe25fcfd3c3ded065c8fea53"
_POLICY_NEEDS = {
    SECONDARY_PROFILE: (
        "customer_profile_business_information",
        "authorized_representative_1",
        "customer_profile_address",
        "customer_profile",
    ),
    SHAKEN: ("customer_profile",),
    CNAM: ("customer_profile", "cnam_information"),
}
_ASSIGNMENTS = {
    "Bundles": "ItemAssignments",
    "CustomerProfiles": "EntityAssignments",
    "TrustProducts": "EntityAssignments",
}
_PARENT = {
    "Bundles": "bundle_sid",
    "CustomerProfiles": "customer_profile_sid",
    "TrustProducts": "trust_product_sid",
}
_STATUSES = frozenset({"draft", "pending-review"})
"""What a customer may set; the others are the reviewers'."""

Given = Mapping[str, str]


@dataclass(slots=True)
class Item:
    """An end user (`IT…`) or a supporting document (`RD…`)."""

    sid: str
    account_sid: str
    type: str
    friendly_name: str
    attributes: dict[str, Any]
    created_at: datetime
    failure_reason: str | None = None


@dataclass(slots=True)
class Container:
    """A bundle, a customer profile, or a trust product."""

    sid: str
    account_sid: str
    family: str
    friendly_name: str
    email: str
    rule_sid: str
    """Of the regulation, or of the policy."""
    status_callback: str
    created_at: datetime
    status: str = "draft"
    assigned: dict[str, str] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    errors: list[dict[str, Any]] = field(default_factory=list)


class Compliance:
    """Everything filed, of all accounts."""

    def __init__(self, sim: TwilioSim) -> None:
        self._sim = sim
        self.containers: dict[str, Container] = {}
        self.items: dict[str, Item] = {}

    # ---- the reviewers -------------------------------------------------------------------------

    def approve(self, sid: str) -> None:
        """A reviewer says yes."""
        self.containers[sid].status = "twilio-approved"

    def reject(self, sid: str, reason: str) -> None:
        """A reviewer says no: the reason stands at the documents, and at Trust Hub's containers."""
        container = self.containers[sid]
        container.status = "twilio-rejected"
        container.errors = [{"code": 22219, "message": reason}]
        for object_sid in container.assigned.values():
            if object_sid in self.items and object_sid.startswith("RD"):
                self.items[object_sid].failure_reason = reason

    def is_approved(self, sid: str) -> bool:
        """Whether a number may be bought under this bundle."""
        found = self.containers.get(sid)
        return found is not None and found.status in ("twilio-approved", "provisionally-approved")

    # ---- requests ------------------------------------------------------------------------------

    def answer(
        self, owner: str, method: str, path: str, pairs: Sequence[tuple[str, str]]
    ) -> tuple[int, Any] | None:
        """Status and body; None when the path is of neither product. Raises: RestError."""
        regulatory = path.startswith(REGULATORY)
        base = REGULATORY if regulatory else TRUST_HUB
        parts = path[len(base) :].strip("/").split("/")
        containers = ("Bundles",) if regulatory else ("CustomerProfiles", "TrustProducts")
        given = dict(pairs)
        match method, parts:
            case "GET", ["Regulations"] if regulatory:
                return 200, _page(path, list(_regulations(given)))
            case "POST", ["EndUsers" | "SupportingDocuments" as kind]:
                return 201, self._new_item(owner, base, kind, given)
            case "GET", ["EndUsers" | "SupportingDocuments" as kind, sid]:
                return 200, self._item(owner, base, kind, sid)
            case "POST", [family] if family in containers:
                return 201, self._new_container(owner, base, family, given)
            case "GET", [family] if family in containers:
                return 200, _page(path, self._select(owner, base, family, given))
            case (("GET" | "POST"), [family, sid]) if family in containers:
                container = self._container(owner, family, sid)
                if method == "POST":
                    self._update(container, given)
                return 200, _shown(container, base)
            case "POST", [family, sid, child] if family in containers:
                return 201, self._add(self._container(owner, family, sid), child, given)
            case "GET", [family, sid, child] if family in containers:
                return 200, _page(path, self._children(self._container(owner, family, sid), child))
        return None

    # ---- inside --------------------------------------------------------------------------------

    def _new_item(self, owner: str, base: str, kind: str, given: Given) -> dict[str, Any]:
        _only(given, {"FriendlyName", "Type", "Attributes"}, needed={"FriendlyName", "Type"})
        try:
            attributes = json.loads(given.get("Attributes") or "{}")
        except ValueError:
            raise RestError(400, 20001, "Attributes is not JSON") from None
        prefix = "IT" if kind == "EndUsers" else "RD"
        item = Item(
            new_sid(prefix),
            owner,
            given["Type"],
            given["FriendlyName"],
            attributes,
            self._sim.now(),
        )
        self.items[item.sid] = item
        return self._item(owner, base, kind, item.sid)

    def _item(self, owner: str, base: str, kind: str, sid: str) -> dict[str, Any]:
        item = self.items.get(sid)
        if item is None or item.account_sid != owner:
            raise RestError(404, 20404, f"The requested resource {sid} was not found")
        made = _iso(item.created_at)
        shown: dict[str, Any] = {
            "sid": sid,
            "account_sid": owner,
            "friendly_name": item.friendly_name,
            "type": item.type,
            "attributes": item.attributes,
            "date_created": made,
            "date_updated": made,
            "url": f"{_host(base)}{base}/{kind}/{sid}",
        }
        if kind == "SupportingDocuments":
            status = "rejected" if item.failure_reason else "draft"
            shown |= {
                "mime_type": None,
                # The two products spell it each in its own way.
                "status": status.upper() if base == TRUST_HUB else status,
                "failure_reason": item.failure_reason,
                "errors": None,
            }
        return shown

    def _new_container(self, owner: str, base: str, family: str, given: Given) -> dict[str, Any]:
        if family == "Bundles":
            known = {"RegulationSid", "IsoCountry", "EndUserType", "NumberType", "IsTest"}
            _only(given, _COMMON | known, needed={"FriendlyName", "Email"})
            rule_sid = given.get("RegulationSid", "")
            if rule_sid not in {one["sid"] for one in _regulations({})}:
                raise RestError(400, 22218, f"RegulationSid {rule_sid} is not known"[:200])
        else:
            _only(given, _COMMON | {"PolicySid"}, needed={"FriendlyName", "Email", "PolicySid"})
            rule_sid = given["PolicySid"]
            if rule_sid not in _POLICY_NEEDS:
                raise RestError(404, 20404, f"The requested resource {rule_sid} was not found")
        made = Container(
            sid=new_sid("BU"),
            account_sid=owner,
            family=family,
            friendly_name=given["FriendlyName"],
            email=given["Email"],
            rule_sid=rule_sid,
            status_callback=given.get("StatusCallback", ""),
            created_at=self._sim.now(),
        )
        self.containers[made.sid] = made
        return _shown(made, base)

    def _select(self, owner: str, base: str, family: str, given: Given) -> list[dict[str, Any]]:
        _only(given, {"Status", "FriendlyName", "PolicySid", "RegulationSid", "PageSize", "Page"})
        return [
            _shown(one, base)
            for one in self.containers.values()
            if (one.account_sid, one.family) == (owner, family)
            and given.get("FriendlyName", one.friendly_name) == one.friendly_name
            and given.get("Status", one.status) == one.status
            and given.get("PolicySid", one.rule_sid) == one.rule_sid
        ]

    def _container(self, owner: str, family: str, sid: str) -> Container:
        found = self.containers.get(sid)
        if found is None or (found.account_sid, found.family) != (owner, family):
            raise RestError(404, 20404, f"The requested resource {sid} was not found")
        return found

    def _update(self, container: Container, given: Given) -> None:
        _only(given, _COMMON | {"Status"})
        if "Status" in given and len(given) > 1:
            raise RestError(400, 22204, "Status and other properties cannot be changed together")
        status = given.get("Status", container.status)
        if "Status" in given and status not in _STATUSES:
            raise RestError(400, 20001, f"Status cannot be set to {status}"[:200])
        if status == "pending-review" and self._findings(container):
            raise RestError(400, 22210, "The bundle is not compliant")
        container.status = status
        container.friendly_name = given.get("FriendlyName", container.friendly_name)
        container.email = given.get("Email", container.email)

    def _add(self, container: Container, child: str, given: Given) -> dict[str, Any]:
        shown = {
            "account_sid": container.account_sid,
            _PARENT[container.family]: container.sid,
            "date_created": _iso(self._sim.now()),
        }
        if child == _ASSIGNMENTS[container.family]:
            _only(given, {"ObjectSid"}, needed={"ObjectSid"})
            return shown | self._assign(container, given["ObjectSid"])
        if child == "Evaluations":
            _only(given, {"PolicySid"} if container.family != "Bundles" else set())
            findings = self._findings(container)
            rule = "regulation_sid" if container.family == "Bundles" else "policy_sid"
            return shown | {
                "sid": new_sid("EL"),
                rule: container.rule_sid,
                "status": "noncompliant" if findings else "compliant",
                "results": findings,
            }
        if child == "ChannelEndpointAssignments" and container.family != "Bundles":
            return shown | self._connect(container, given)
        raise RestError(404, 20404, f"The requested resource {child} was not found")

    def _assign(self, container: Container, object_sid: str) -> dict[str, Any]:
        item, other = self.items.get(object_sid), self.containers.get(object_sid)
        is_known = item is not None and item.account_sid == container.account_sid
        # An approved profile of the main account may vouch for a subaccount's.
        if not is_known and (other is None or other.status != "twilio-approved"):
            raise RestError(400, 22206, f"{object_sid} cannot be assigned")
        if object_sid in container.assigned.values():
            raise RestError(409, 22207, f"{object_sid} is assigned already")
        sid = new_sid("BV")
        container.assigned[sid] = object_sid
        return {"sid": sid, "object_sid": object_sid}

    def _connect(self, container: Container, given: Given) -> dict[str, Any]:
        names = {"ChannelEndpointType", "ChannelEndpointSid"}
        _only(given, names, needed=names)
        number_sid = given["ChannelEndpointSid"]
        if container.status != "twilio-approved":
            raise RestError(400, 22220, "Not approved: numbers cannot be assigned")
        if number_sid not in {number.sid for number in self._sim.numbers.values()}:
            raise RestError(400, 22221, f"{number_sid} is no number of the account")
        profiles = [
            self.containers[sid] for sid in container.assigned.values() if sid in self.containers
        ]
        if container.family == "TrustProducts" and not any(
            number_sid in profile.endpoints.values() for profile in profiles
        ):
            raise RestError(400, 22222, "The number is not assigned to the customer profile")
        if number_sid in container.endpoints.values():
            raise RestError(409, 22223, f"{number_sid} is assigned already")
        sid = new_sid("RA")
        container.endpoints[sid] = number_sid
        kind = given["ChannelEndpointType"]
        return {"sid": sid, "channel_endpoint_sid": number_sid, "channel_endpoint_type": kind}

    def _children(self, container: Container, child: str) -> list[dict[str, Any]]:
        if child == _ASSIGNMENTS[container.family]:
            return [{"sid": sid, "object_sid": other} for sid, other in container.assigned.items()]
        if child == "ChannelEndpointAssignments":
            return [
                {"sid": sid, "channel_endpoint_sid": other}
                for sid, other in container.endpoints.items()
            ]
        raise RestError(404, 20404, f"The requested resource {child} was not found")

    def _findings(self, container: Container) -> list[dict[str, Any]]:
        held = {
            self.items[sid].type: self.items[sid].attributes
            for sid in container.assigned.values()
            if sid in self.items
        }
        if container.family != "Bundles":
            if any(sid in self.containers for sid in container.assigned.values()):
                held["customer_profile"] = {}
            needed = [(kind, kind, []) for kind in _POLICY_NEEDS[container.rule_sid]]
        else:
            needed = list(_wanted(container.rule_sid))
        found = []
        for name, kind, fields in needed:
            invalid = [one for one in fields if not held.get(kind, {}).get(one["machine_name"])]
            if kind in held and not invalid:
                continue
            found.append(
                {
                    "friendly_name": name,
                    "object_type": kind,
                    "passed": False,
                    "failure_reason": f"A {name} is missing. Please add one to the regulatory bundle.",
                    "error_code": 22214,
                    "valid": [],
                    "invalid": [
                        {
                            "friendly_name": one["friendly_name"],
                            "object_field": one["machine_name"],
                            "failure_reason": f"The {one['friendly_name']} is missing.",
                            "error_code": 22215,
                        }
                        for one in invalid
                    ],
                    "requirement_friendly_name": name,
                    "requirement_name": f"{kind}_info",
                }
            )
        return found


_COMMON = {"FriendlyName", "Email", "StatusCallback"}
_BUSINESS = [
    {"machine_name": "business_name", "friendly_name": "Business Name", "description": ""},
    {
        "machine_name": "business_registration_number",
        "friendly_name": "Business Registration Number",
        "description": "",
    },
]
_ADDRESS_FIELD = [
    {"machine_name": "address_sids", "friendly_name": "Address sid(s)", "description": ""}
]


def _regulations(given: Given) -> Iterator[dict[str, Any]]:
    known = {"EndUserType", "IsoCountry", "NumberType", "IncludeConstraints", "PageSize", "Page"}
    _only(given, known)
    types = {"Local": "local", "Mobile": "mobile"}
    for country in COUNTRIES.values():
        for kind in sorted(country.needs_bundle):
            sid = "RN" + (country.code + types[kind]).encode().hex().ljust(32, "0")[:32]
            if given.get("IsoCountry", country.code) != country.code:
                continue
            if given.get("NumberType", types[kind]) != types[kind]:
                continue
            if given.get("EndUserType", "business") != "business":
                continue
            yield {
                "sid": sid,
                "friendly_name": f"{country.name}: {kind} - Business",
                "iso_country": country.code,
                "number_type": types[kind],
                "end_user_type": "business",
                "requirements": {
                    "end_user": [
                        {
                            "name": "Business",
                            "type": "business",
                            "requirement_name": "business_info",
                            "url": f"{_host(REGULATORY)}{REGULATORY}/Regulations/business",
                            "fields": [one["machine_name"] for one in _BUSINESS],
                            "detailed_fields": _BUSINESS,
                        }
                    ],
                    "supporting_document": [
                        [
                            {
                                "name": "Address",
                                "type": "document",
                                "requirement_name": "proof_of_address",
                                "description": "The physical location of the business.",
                                "accepted_documents": [
                                    {
                                        "name": "Address Validation",
                                        "type": "address",
                                        "url": f"{_host(REGULATORY)}{REGULATORY}/DocumentTypes/address",
                                        "fields": ["address_sids"],
                                        "detailed_fields": _ADDRESS_FIELD,
                                    }
                                ],
                            }
                        ]
                    ],
                },
                "url": f"{_host(REGULATORY)}{REGULATORY}/Regulations/{sid}",
            }


def _wanted(rule_sid: str) -> Iterator[tuple[str, str, list[dict[str, str]]]]:
    for one in _regulations({}):
        if one["sid"] != rule_sid:
            continue
        for person in one["requirements"]["end_user"]:
            yield person["name"], person["type"], person["detailed_fields"]
        for group in one["requirements"]["supporting_document"]:
            for proof in group:
                paper = proof["accepted_documents"][0]
                yield paper["name"], paper["type"], paper["detailed_fields"]


def _only(given: Given, known: set[str], needed: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    for name in given:
        if name not in known:
            raise RestError(400, 20001, f"Unknown parameter: {name}")
    for name in sorted(needed):
        if not given.get(name):
            raise RestError(400, 20001, f"{name} is required")


def _page(path: str, items: list[dict[str, Any]]) -> dict[str, Any]:
    url = _host(path) + path + "?PageSize=50&Page=0"
    return {
        "results": items,
        "meta": {
            "page": 0,
            "page_size": 50,
            "first_page_url": url,
            "previous_page_url": None,
            "url": url,
            "next_page_url": None,
            "key": "results",
        },
    }


def _shown(container: Container, base: str) -> dict[str, Any]:
    rule = "regulation_sid" if container.family == "Bundles" else "policy_sid"
    made = _iso(container.created_at)
    shown = {
        "sid": container.sid,
        "account_sid": container.account_sid,
        rule: container.rule_sid,
        "friendly_name": container.friendly_name,
        "status": container.status,
        "email": container.email,
        "status_callback": container.status_callback or None,
        "valid_until": None,
        "date_created": made,
        "date_updated": made,
        "url": f"{_host(base)}{base}/{container.family}/{container.sid}",
        "links": {},
    }
    return shown if container.family == "Bundles" else shown | {"errors": container.errors or None}


def _host(path: str) -> str:
    return "https://numbers.twilio.com" if path.startswith("/v2") else "https://trusthub.twilio.com"


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
