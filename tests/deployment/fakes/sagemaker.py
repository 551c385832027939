"""SageMaker as it is documented: states, refusals and messages.

A state advances with each look at the endpoint, not with time. What the documents forbid is refused, and noted as a
violation even where the real service would let it pass.
"""

import re

NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
ROLE = re.compile(r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+")
TAG = re.compile(r"[\w .:/=+\-@]*")
MOVING = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
ACCOUNT, REGION = "123456789012", "eu-west-1"
TITLES = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}


class Refusal(Exception):
    """The service refuses a call."""

    def __init__(self, code, message, status=400):
        super().__init__(message)
        self.code, self.message, self.status = code, message, status


def invalid(message):
    return Refusal("ValidationException", message)


def arn(kind, name):
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"


class SageMaker:
    """The models, configs and endpoints of one account.

    Attributes:
        objects: Those on S3, to refuse models whose archive is absent.
        images: Those in ECR; an endpoint whose image is absent fails.
        script: The states that the next creation or update goes through, before it settles.
        outcome: What it settles in: "good", "failed" or "rolled back".
        lag: Looks for which an accepted update cannot be seen yet.
        violations: What the documents forbid.
    """

    def __init__(self, objects, images):
        self.objects, self.images = objects, images
        self.found = {"model": {}, "endpoint-config": {}, "endpoint": {}}
        self.script, self.outcome, self.lag, self.violations = ["moving", "moving"], "good", 0, []

    def answer(self, operation, given):
        verb, kind = re.fullmatch("(Create|Describe|Delete|Update|List)(.+?)s?", operation).groups()
        if kind == "Tag":
            return {
                "Tags": [
                    {"Key": key, "Value": value} for key, value in self._of_arn(given["ResourceArn"])["tags"].items()
                ]
            }
        kind = {"Model": "model", "EndpointConfig": "endpoint-config", "Endpoint": "endpoint"}[kind]
        return getattr(self, f"_{verb.lower()}")(kind, given)

    def state(self):
        """Return all that is there, but for how far a state has advanced."""
        return {kind: {name: self._stable(one) for name, one in found.items()} for kind, found in self.found.items()}

    def put(self, kind, name, tags=None, **given):
        """Put a resource there, as somebody else would."""
        self.found[kind][name] = {"given": given, "tags": dict(tags or {}), "pending": "", "left": [], "reason": ""}

    def _stable(self, one):
        return {key: one[key] for key in ("given", "tags", "state", "pending", "reason") if key in one}

    def _of_arn(self, wanted):
        for kind, found in self.found.items():
            for name, one in found.items():
                if arn(kind, name) == wanted:
                    return one
        raise invalid(f'Could not find resource "{wanted}".')

    def _named(self, kind, given):
        name = next(
            value
            for key, value in given.items()
            if key == {"model": "ModelName", "endpoint-config": "EndpointConfigName", "endpoint": "EndpointName"}[kind]
        )
        if not NAME.fullmatch(name):
            raise invalid(
                f"1 validation error detected: Value '{name}' failed to satisfy constraint: Member must satisfy regular expression pattern"
            )
        return name

    def _get(self, kind, name):
        if name not in self.found[kind]:
            raise invalid(f'Could not find {TITLES[kind]} "{arn(kind, name)}".')
        return self.found[kind][name]

    def _list(self, kind, given):
        key = {"model": "Model", "endpoint-config": "EndpointConfig"}[kind]
        names = [one for one in sorted(self.found[kind]) if given["NameContains"] in one]
        first = int(given.get("NextToken", 0))
        page = [{f"{key}Name": one, f"{key}Arn": arn(kind, one)} for one in names[first : first + 1]]
        more = {"NextToken": str(first + 1)} if first + 1 < len(names) else {}
        return {f"{key}s": page, **more}

    def _create(self, kind, given):
        name = self._named(kind, given)
        if name in self.found[kind]:
            raise invalid(f'Cannot create already existing {TITLES[kind]} "{arn(kind, name)}".')
        tags = {one["Key"]: one["Value"] for one in given.pop("Tags", [])}
        if not all(TAG.fullmatch(one) for pair in tags.items() for one in pair):
            raise invalid("Tags are invalid")
        getattr(self, f"_check_{kind.replace('-', '_')}")(given)
        self.put(kind, name, tags, **given)
        if kind == "endpoint":
            one = self.found[kind][name]
            one["state"] = "Creating"
            one["left"] = self._course("Creating", given["EndpointConfigName"], "")
        key = {"model": "Model", "endpoint-config": "EndpointConfig", "endpoint": "Endpoint"}[kind]
        return {f"{key}Arn": arn(kind, name)}

    def _check_model(self, given):
        if not ROLE.fullmatch(given["ExecutionRoleArn"]):
            raise invalid("Value for executionRoleArn is invalid")
        url = given["PrimaryContainer"]["ModelDataUrl"]
        if url not in self.objects:
            raise invalid(f"Could not find model data at {url}.")

    def _check_endpoint_config(self, given):
        for one in given["ProductionVariants"]:
            self._get("model", one["ModelName"])
            if one["InstanceType"].startswith("ml.x9"):
                raise invalid(f"Instance type {one['InstanceType']} is not supported in {REGION}.")

    def _check_endpoint(self, given):
        config = self._get("endpoint-config", given["EndpointConfigName"])
        if any(one["InstanceType"] == "ml.p4d.24xlarge" for one in config["given"]["ProductionVariants"]):
            raise Refusal(
                "ResourceLimitExceeded",
                "The account-level service limit 'ml.p4d.24xlarge for endpoint usage' is 0 Instances, with current utilization of 0 Instances.",
            )

    def _image_of(self, config):
        model = self._get("model", self._get("endpoint-config", config)["given"]["ProductionVariants"][0]["ModelName"])
        return model["given"]["PrimaryContainer"]["Image"]

    def _course(self, word, config, before):
        """Return the states that follow, one a look; each is (state, config, reason)."""
        states = [(word if one == "moving" else one, before or config, "") for one in self.script]
        image = self._image_of(config)
        reason = "The primary container for production variant AllTraffic did not pass the ping health check."
        outcome = self.outcome
        if image not in self.images:
            reason = f"The image '{image}' does not exist."
            outcome = "rolled back" if before else "failed"
        if outcome == "good":
            return [*states, ("InService", config, "")]
        if outcome == "failed":
            return [*states, ("Failed", before or config, reason)]
        return [*states, ("RollingBack", before, reason), ("InService", before, reason)]

    def _describe(self, kind, given):
        name = self._named(kind, given)
        one = self._get(kind, name)
        if kind != "endpoint":
            key = "Model" if kind == "model" else "EndpointConfig"
            return {**one["given"], f"{key}Arn": arn(kind, name), "CreationTime": 0}
        if one.get("hidden", 0):
            one["hidden"] -= 1
            shown = {"state": "InService", "config": one["given"]["EndpointConfigName"], "pending": ""}
        else:
            self._advance(name, one)
            if name not in self.found["endpoint"]:
                raise invalid(f'Could not find endpoint "{arn(kind, name)}".')
            shown = {"state": one["state"], "config": one["given"]["EndpointConfigName"], "pending": one["pending"]}
        pending = {"PendingDeploymentSummary": {"EndpointConfigName": shown["pending"]}} if shown["pending"] else {}
        reason = {"FailureReason": one["reason"]} if one["reason"] else {}
        times = {"CreationTime": 0, "LastModifiedTime": 0}
        return {
            "EndpointName": name,
            "EndpointArn": arn(kind, name),
            "EndpointConfigName": shown["config"],
            "EndpointStatus": shown["state"],
            **pending,
            **reason,
            **times,
        }

    def _advance(self, name, one):
        if not one["left"]:
            return
        state, config, reason = one["left"].pop(0)
        if state == "gone":
            del self.found["endpoint"][name]
            return
        one["state"], one["reason"] = state, reason
        if not one["left"]:
            one["given"]["EndpointConfigName"], one["pending"] = config, ""

    def _update(self, kind, given):
        one = self._get(kind, given["EndpointName"])
        config = given["EndpointConfigName"]
        before = one["given"]["EndpointConfigName"]
        self._get("endpoint-config", config)
        self._refuse_moving(given["EndpointName"], one)
        if one["state"] == "Failed":
            raise invalid(f'Cannot update failed endpoint "{arn(kind, given["EndpointName"])}".')
        self._check_endpoint(given)
        self._get("endpoint-config", before)
        one["state"], one["pending"], one["hidden"] = "Updating", config, self.lag
        one["left"] = self._course("Updating", config, before)
        return {"EndpointArn": arn(kind, given["EndpointName"])}

    def _refuse_moving(self, name, one):
        if one["state"] in MOVING:
            raise invalid(f'Cannot update in-progress endpoint "{arn("endpoint", name)}".')

    def _delete(self, kind, given):
        name = self._named(kind, given)
        one = self._get(kind, name)
        if kind == "endpoint":
            self._refuse_moving(name, one)
            one["state"], one["left"] = (
                "Deleting",
                [("Deleting", one["given"]["EndpointConfigName"], ""), ("gone", "", "")],
            )
            return
        for endpoint in self.found["endpoint"].values():
            used = [endpoint["given"]["EndpointConfigName"], endpoint["pending"]]
            if kind == "model":
                configs = [self.found["endpoint-config"].get(config) for config in used]
                used = [
                    each["ModelName"] for config in configs if config for each in config["given"]["ProductionVariants"]
                ]
            if name in used and endpoint["state"] not in ("Failed", "Deleting"):
                self.violations.append(f"deletion of the {TITLES[kind]} {name}, which is in use")
                raise invalid(f"Cannot delete the {TITLES[kind]} {name} in use.")
        del self.found[kind][name]
        return
