"""What Vertex AI does, as far as it is documented: states, operations that take looks instead of time, and refusals.

https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.endpoints and .models
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from dataclasses import dataclass, field

CODES = {
    "INVALID_ARGUMENT": (400, 3),
    "FAILED_PRECONDITION": (400, 9),
    "PERMISSION_DENIED": (403, 7),
    "NOT_FOUND": (404, 5),
    "ALREADY_EXISTS": (409, 6),
    "ABORTED": (409, 10),
    "RESOURCE_EXHAUSTED": (429, 8),
    "INTERNAL": (500, 13),
    "UNAVAILABLE": (503, 14),
}
LABEL = re.compile(r"[a-z0-9_-]{0,63}")
MACHINES = ("n1-standard-2", "n1-standard-4")
BODY = {False: 1_500_000, True: 10_000_000}


class Refusal(Exception):
    """An answer that is an error."""

    def __init__(self, status, message):
        super().__init__(message)
        self.status, self.code, self.number = status, *CODES[status]
        self.message = message

    @property
    def answer(self):
        return self.code, {"error": {"code": self.code, "message": self.message, "status": self.status}}


@dataclass
class Fault:
    """What happens to one call; ``after`` it has had its effect, or instead of it."""

    status: str
    message: str = "a planted fault"
    after: bool = False


@dataclass
class Operation:
    """It is done after some looks at it."""

    name: str
    kind: str
    looks: int
    effect: object
    done: bool = False
    error: dict | None = None
    response: dict = field(default_factory=dict)

    def told(self):
        told = {"name": self.name, "metadata": {"genericMetadata": {}}}
        if self.done:
            return told | {"done": True} | ({"error": self.error} if self.error else {"response": self.response})
        return told


def require(holds, message, status="INVALID_ARGUMENT"):
    if not holds:
        raise Refusal(status, message)


def only(body, *names):
    unknown = set(body) - set(names)
    require(not unknown, f"Invalid JSON payload received. Unknown name {sorted(unknown)}: Cannot find field.")


def check_labels(labels):
    require(len(labels) <= 64, "too many labels")
    for key, value in labels.items():
        require(re.match(r"[a-z]", key) and LABEL.fullmatch(key) and LABEL.fullmatch(value), f"label {key} is invalid")


class Vertex:
    """One region of one project."""

    def __init__(self, *, looks=2, held=2, images=(), port=0):
        self.parent, self.port = "projects/my-project/locations/europe-west4", port
        self.looks, self.held, self.images = looks, held, images
        self.models, self.endpoints, self.operations, self.used = {}, {}, {}, Counter()
        self.calls, self.faults, self.failing, self.before = [], {}, {}, {}
        self.denied, self.splits, self.answer, self.number = set(), [], lambda rows: rows, 0

    @property
    def writes(self):
        return [call for call in self.calls if call[0] != "GET" and not call[1].endswith(":predict")]

    def state(self):
        """Return all that is there, without what changes with each call."""
        hidden = {"etag"}
        plain = [{k: {a: b for a, b in v.items() if a not in hidden} for k, v in kind.items()} for kind in self.kinds]
        running = [one.kind for one in self.operations.values() if not one.done]
        return copy.deepcopy({"endpoints": plain[0], "models": plain[1], "running": running})

    @property
    def kinds(self):
        return self.endpoints, self.models

    def handle(self, method, path, query, body, host):
        """Answer one call, and return its status and its content."""
        number = len(self.calls)
        self.calls.append((method, path))
        if number in self.before:
            self.before.pop(number)()
        fault = self.faults.pop(number, None)
        try:
            answer = 200, {} if fault is not None and not fault.after else self._route(method, path, query, body, host)
        except Refusal as refusal:
            answer = refusal.answer
        return answer if fault is None else Refusal(fault.status, fault.message).answer

    def _route(self, method, path, query, body, host):
        require(path.startswith(self.parent + "/"), "Location is not supported, or no project", "PERMISSION_DENIED")
        require(method not in self.denied, "Permission 'aiplatform' denied on resource", "PERMISSION_DENIED")
        rest = path.removeprefix(self.parent + "/")
        for verb, form, answer in ROUTES:
            found = re.fullmatch(form, rest)
            if found and verb == method:
                return copy.deepcopy(answer(self, *found.groups(), query=query, body=body or {}, host=host))
        raise Refusal("NOT_FOUND", f"no method {method} {path}")

    # --- operations

    def _begin(self, of, kind, effect):
        self.number += 1
        made = Operation(f"{self.parent}/{of}/operations/{self.number}", kind, self.looks, effect)
        self.operations[made.name] = made
        return made.told()

    def _look(self, one):
        if one.done:
            return one.told()
        one.looks -= 1
        if one.looks <= 0:
            one.done = True
            planned = self.failing.pop(one.kind, None)
            try:
                require(planned is None, *reversed(planned or ("", "")))
                one.response = one.effect() or {}
            except Refusal as refusal:
                one.error = {"code": refusal.number, "message": refusal.message}
        return one.told()

    def _running(self, of):
        return [one for one in self.operations.values() if f"/{of}/operations/" in one.name and not one.done]

    def require_idle(self, of):
        running = [one.name for one in self._running(of)]
        require(not running, f"There are other operations running on {of}: {running}", "FAILED_PRECONDITION")

    def get_operation(self, of, number, **_):
        one = self.operations.get(f"{self.parent}/{of}/operations/{number}")
        require(one is not None, "Operation not found", "NOT_FOUND")
        return self._look(one)

    def list_operations(self, of, **_):
        found = [one for one in self.operations.values() if f"/{of}/operations/" in one.name]
        return {"operations": [self._look(one) for one in found]} if found else {}

    # --- resources

    def _store(self, kind, name, resource):
        self.number += 1
        kind[name] = {**resource, "etag": f"e{self.number}"}
        if kind is self.endpoints:
            self.splits.append((name, len(resource.get("deployedModels", ())), dict(resource.get("trafficSplit", {}))))

    def _of(self, kind, name):
        found = kind.get(name)
        require(found is not None, f"{name} is not found.", "NOT_FOUND")
        return found

    def get_endpoint(self, name, **_):
        return self._of(self.endpoints, name)

    def get_model(self, name, **_):
        return self._of(self.models, name)

    def list_some(self, kind, query, **_):
        found = [one for one in getattr(self, kind).values() if _matches(one, query.get("filter", ""))]
        first = int(query.get("pageToken", 0))
        more = {"nextPageToken": str(first + 1)} if len(found) > first + 1 else {}
        return {kind: found[first : first + 1], **more}  # one a page: all pages have to be read

    def create_endpoint(self, query, body, **_):
        only(body, "displayName", "labels", "dedicatedEndpointEnabled", "description")
        only(query, "endpointId")
        name = query["endpointId"]
        require(re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]|[1-9][0-9]{0,8}", name), "endpointId is invalid")
        require(0 < len(body.get("displayName", "")) <= 128, "displayName is required")
        check_labels(body.get("labels", {}))
        taken = name in self.endpoints or self._running(f"endpoints/{name}")
        require(not taken, f"endpoint {name} already exists", "ALREADY_EXISTS")
        made = {"name": f"{self.parent}/endpoints/{name}", **body}
        if body.get("dedicatedEndpointEnabled"):
            made["dedicatedEndpointDns"] = f"localhost:{self.port}"
        return self._begin(f"endpoints/{name}", "createEndpoint", lambda: self._store(self.endpoints, name, made))

    def patch_endpoint(self, name, query, body, **_):
        before = self._of(self.endpoints, name)
        mask = query.get("updateMask", "").split(",")
        require(set(mask) <= {"labels", "trafficSplit", "displayName"}, "updateMask is invalid")
        only(body, "etag", *mask)
        self.require_idle(f"endpoints/{name}")
        require(body.get("etag", before["etag"]) == before["etag"], "etag does not match", "ABORTED")
        check_labels(body.get("labels", {}))
        after = {**before, **{one: body.get(one, {}) for one in mask}}
        _check_split(after.get("trafficSplit", {}), {one["id"] for one in after.get("deployedModels", ())})
        self._store(
            self.endpoints, name, {key: value for key, value in after.items() if value or key != "trafficSplit"}
        )
        return self.endpoints[name]

    def delete_endpoint(self, name, **_):
        before = self._of(self.endpoints, name)
        self.require_idle(f"endpoints/{name}")
        require(not before.get("deployedModels"), "Endpoint has deployed models", "FAILED_PRECONDITION")
        return self._begin(f"endpoints/{name}", "deleteEndpoint", lambda: self.endpoints.pop(name) and None)

    def upload(self, body, **_):
        only(body, "modelId", "model")
        model, name = body["model"], body["modelId"]
        only(model, "displayName", "description", "containerSpec", "labels")  # no artifactUri: it is in the image
        only(model["containerSpec"], "imageUri", "ports")
        require(re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", name), "modelId is invalid")
        require(0 < len(model.get("displayName", "")) <= 128, "displayName is required")
        check_labels(model.get("labels", {}))
        taken = name in self.models or self._running(f"models/{name}")
        require(not taken, f"model {name} already exists", "ALREADY_EXISTS")
        image = model["containerSpec"]["imageUri"]

        def effect():
            require(image in self.images, f'The container image "{image}" does not exist.', "NOT_FOUND")
            self._store(self.models, name, {"name": f"{self.parent}/models/{name}", **model})

        return self._begin(f"models/{name}", "upload", effect)

    def delete_model(self, name, **_):
        self._of(self.models, name)
        self.require_idle(f"models/{name}")
        deployed = [d["model"] for one in self.endpoints.values() for d in one.get("deployedModels", ())]
        is_used = any(one.endswith(f"/models/{name}") for one in deployed) or self.used[name] > 0
        self.used[name] -= 1
        require(not is_used, f"The Model {name} is deployed or being undeployed", "FAILED_PRECONDITION")
        return self._begin(f"models/{name}", "deleteModel", lambda: self.models.pop(name) and None)

    def deploy_model(self, name, body, **_):
        only(body, "deployedModel", "trafficSplit")
        one, before = body["deployedModel"], self._of(self.endpoints, name)
        only(one, "id", "model", "displayName", "dedicatedResources", "serviceAccount")
        machine = one["dedicatedResources"]["machineSpec"]["machineType"]
        require(machine in MACHINES, f'Machine type "{machine}" is not supported.')
        self._of(self.models, one["model"].rsplit("/", 1)[-1])
        require(re.fullmatch(r"[1-9][0-9]{0,9}", one["id"]), "deployedModel.id is invalid")
        ids = {other["id"] for other in before.get("deployedModels", ())}
        require(one["id"] not in ids, "DeployedModel exists", "ALREADY_EXISTS")
        self.require_idle(f"endpoints/{name}")
        split = {one["id"] if key == "0" else key: part for key, part in body.get("trafficSplit", {}).items()}
        _check_split(split, ids | {one["id"]})

        def effect():
            now = dict(self.endpoints[name])
            now["deployedModels"] = [*now.get("deployedModels", ()), one]
            self._store(self.endpoints, name, {**now, **({"trafficSplit": split} if split else {})})

        return self._begin(f"endpoints/{name}", "deployModel", effect)

    def undeploy_model(self, name, body, **_):
        only(body, "deployedModelId")
        before, gone = self._of(self.endpoints, name), body["deployedModelId"]
        self.require_idle(f"endpoints/{name}")
        models = before.get("deployedModels", [])
        require(any(one["id"] == gone for one in models), f"DeployedModel {gone} does not exist", "NOT_FOUND")
        is_idle = len(models) == 1 or not before.get("trafficSplit", {}).get(gone)
        require(is_idle, f"DeployedModel {gone} has traffic", "FAILED_PRECONDITION")

        def effect():
            now = dict(self.endpoints[name])
            left = [one for one in now["deployedModels"] if one["id"] != gone]
            model = next(one for one in now["deployedModels"] if one["id"] == gone)["model"].rsplit("/", 1)[-1]
            self.used[model] = self.held
            split = {key: part for key, part in now.get("trafficSplit", {}).items() if key != gone}
            now = {key: value for key, value in now.items() if key not in ("deployedModels", "trafficSplit")}
            now |= {"deployedModels": left} if left else {}
            self._store(self.endpoints, name, now | ({"trafficSplit": split} if split else {}))

        return self._begin(f"endpoints/{name}", "undeployModel", effect)

    def predict(self, name, body, host, **_):
        endpoint = self._of(self.endpoints, name)
        only(body, "instances", "parameters")
        own = endpoint.get("dedicatedEndpointDns")
        require(own is None or own == host, "Dedicated Endpoint cannot be accessed through the shared domain")
        require(sum(endpoint.get("trafficSplit", {}).values()) == 100, "no traffic", "FAILED_PRECONDITION")
        return {"predictions": self.answer(body["instances"]), "deployedModelId": next(iter(endpoint["trafficSplit"]))}


def _check_split(split, ids):
    require(set(split) <= ids, f"DeployedModel IDs {sorted(set(split) - ids)} do not exist.")
    require(not split or sum(split.values()) == 100, "traffic must add up to 100")


def _matches(one, asked):
    key, _, value = asked.partition("=")
    value = value.strip('"')
    if key.startswith("labels."):
        return one.get("labels", {}).get(key.removeprefix("labels.")) == value
    return not key or one[key] == value


_ID = r"([\w-]+)"
ROUTES = (
    ("GET", r"(endpoints|models)", Vertex.list_some),
    ("GET", rf"endpoints/{_ID}", Vertex.get_endpoint),
    ("GET", rf"models/{_ID}", Vertex.get_model),
    ("GET", r"((?:endpoints|models)/[\w-]+)/operations", Vertex.list_operations),
    ("GET", r"((?:endpoints|models)/[\w-]+)/operations/(\d+)", Vertex.get_operation),
    ("POST", r"endpoints", Vertex.create_endpoint),
    ("PATCH", rf"endpoints/{_ID}", Vertex.patch_endpoint),
    ("DELETE", rf"endpoints/{_ID}", Vertex.delete_endpoint),
    ("POST", r"models:upload", Vertex.upload),
    ("DELETE", rf"models/{_ID}", Vertex.delete_model),
    ("POST", rf"endpoints/{_ID}:deployModel", Vertex.deploy_model),
    ("POST", rf"endpoints/{_ID}:undeployModel", Vertex.undeploy_model),
    ("POST", rf"endpoints/{_ID}:predict", Vertex.predict),
)
