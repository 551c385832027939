"""AWS in a thread: SageMaker, S3, STS and ECR behind one address, which boto3 takes from ``AWS_ENDPOINT_URL``.

It counts calls, and refuses, delays or loses them when told to.
"""

import asyncio
import base64
import contextlib
import copy
import hashlib
import json
import re
import threading
import urllib.error
import urllib.parse
import urllib.request

import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from tests.deployment.fakes.sagemaker import ACCOUNT, REGION, Refusal, SageMaker

KEY, SECRET, TOKEN = "AKIDEXAMPLE0000PLANT", "planted/SECRET+key0123456789abcdefghijklm", "planted-TOKEN-0123456789"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/digits:1"
READS = re.compile("Describe|List|Get|Head|Invoke")
LARGEST = 6_291_456


class AWS:
    """One account.

    Attributes:
        calls: The operations that were asked for, in order, those refused too.
        fail_at: The number of the call that is refused, from 1.
        denied: Operations for which the permission is missing.
        busy: How often each operation is refused as throttled.
        lost: Operations that are done, but whose first answer is lost.
        keys: What each access key is good for: None, or the code of the refusal.
        hold: Called in a thread with the number and operation of each call before it is done.
        container: The address of a container that InvokeEndpoint asks.
    """

    def __init__(self):
        self.objects, self.images = {}, {IMAGE, IMAGE.replace(":1", ":2")}
        self.buckets = {
            f"sagemaker-{REGION}-{ACCOUNT}": (ACCOUNT, REGION),
            "other-account": ("9" * 12, REGION),
            "far": (ACCOUNT, "us-east-1"),
        }
        self.sagemaker = SageMaker(self.objects, self.images)
        self.calls, self.bodies = [], []
        self.fail_at, self.denied, self.busy, self.lost = None, set(), {}, set()
        self.keys, self.hold, self.container = {KEY: None}, None, None

    @property
    def writes(self):
        return [one for one in self.calls if not READS.match(one)]

    def state(self):
        """Return all that is there, to be compared."""
        return copy.deepcopy({"objects": self.objects, **self.sagemaker.state()})

    def saved(self):
        """Return all that is there, to be restored."""
        return copy.deepcopy((self.objects, self.sagemaker.found))

    def restore(self, saved):
        """Go back to what was there."""
        for kept, now in zip(copy.deepcopy(saved), (self.objects, self.sagemaker.found), strict=True):
            now.clear()
            now.update(kept)
        self.forget()

    def forget(self):
        """Count from 1 again."""
        self.calls.clear()
        self.fail_at = None

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        body = await request.body()
        service, operation = _operation(request, body)
        self.calls.append(operation)
        number = len(self.calls)
        self.bodies.append((operation, body, str(request.url)))
        if self.hold is not None:
            await asyncio.to_thread(self.hold, number, operation)
        try:
            self._check(request, number, operation)
            answer = getattr(self, f"_{service}")(operation, request, body)
            self._lose(operation)
        except Refusal as refusal:
            answer = _refused(service, refusal)
        await answer(scope, receive, send)

    def _lose(self, operation):
        if operation in self.lost:
            self.lost.discard(operation)
            raise Refusal("InternalFailure", "the answer is lost", 500)

    def _check(self, request, number, operation):
        found = re.search("Credential=([^/]+)/", request.headers.get("authorization", ""))
        code = self.keys.get(found[1], "UnrecognizedClientException") if found else "MissingAuthenticationToken"
        if code is not None:
            told = request.headers.get("x-amz-security-token", "")
            raise Refusal(
                code,
                f"The security token included in the request is invalid: {told}\nThe canonical string was x-amz-security-token:{told}",
                403,
            )
        if self.busy.get(operation):
            self.busy[operation] -= 1
            raise Refusal("ThrottlingException", "Rate exceeded")
        if number == self.fail_at or operation in self.denied:
            raise Refusal(
                "AccessDeniedException",
                f"User: arn:aws:iam::{ACCOUNT}:user/me is not authorized to perform: {operation}",
                403 if operation in ("HeadObject", "HeadBucket") else 400,
            )

    def _sagemaker(self, operation, request, body):
        answer = self.sagemaker.answer(operation, json.loads(body))
        return Response(b"" if answer is None else json.dumps(answer), media_type="application/x-amz-json-1.1")

    def _ecr(self, operation, request, body):
        given = json.loads(body)
        tag = given["imageIds"][0].get("imageTag")
        repository = f"{given['registryId']}.dkr.ecr.{REGION}.amazonaws.com/{given['repositoryName']}"
        if not any(one.startswith(f"{repository}:") for one in self.images):
            raise Refusal(
                "RepositoryNotFoundException", f"The repository with name '{given['repositoryName']}' does not exist"
            )
        if f"{repository}:{tag}" not in self.images:
            raise Refusal("ImageNotFoundException", f"The image with imageId imageTag:'{tag}' does not exist")
        return Response(json.dumps({"imageDetails": [{}]}), media_type="application/x-amz-json-1.1")

    def _sts(self, operation, request, body):
        text = f"<GetCallerIdentityResponse><GetCallerIdentityResult><Account>{ACCOUNT}</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        return Response(text, media_type="text/xml")

    def _s3(self, operation, request, body):
        bucket, _, key = request.url.path[1:].partition("/")
        owner, region = self.buckets.get(bucket, (None, None))
        if owner is None:
            raise Refusal("NoSuchBucket", "The specified bucket does not exist", 404)
        if request.headers["x-amz-expected-bucket-owner"] != owner:
            raise Refusal("AccessDenied", "Access Denied", 403)
        if operation == "HeadBucket":
            return Response(headers={"x-amz-bucket-region": region})
        return getattr(self, f"_s3_{operation}")(f"s3://{bucket}/{key}", request, body)

    def _s3_HeadObject(self, url, request, body):
        if url not in self.objects:
            raise Refusal("NotFound", "", 404)
        return Response(headers={f"x-amz-meta-{key}": value for key, value in self.objects[url]["marks"].items()})

    def _s3_PutObject(self, url, request, body):
        if url in self.objects and request.headers.get("if-none-match") == "*":
            raise Refusal("PreconditionFailed", "At least one of the pre-conditions you specified did not hold", 412)
        content, checksum = _content(request, body)
        if base64.b64encode(hashlib.sha256(content).digest()).decode() != checksum:
            raise Refusal("BadDigest", "The SHA256 you specified did not match the calculated checksum.")
        marks = {
            key.removeprefix("x-amz-meta-"): value
            for key, value in request.headers.items()
            if key.startswith("x-amz-meta-")
        }
        self.objects[url] = {"content": content, "marks": marks}
        return Response()

    def _s3_DeleteObject(self, url, request, body):
        models = self.sagemaker.found["model"].items()
        if any(one["given"]["PrimaryContainer"]["ModelDataUrl"] == url and self._runs(name) for name, one in models):
            self.sagemaker.violations.append(f"deletion of {url}, which is in use")
        self.objects.pop(url, None)
        return Response(status_code=204)

    def _runs(self, model):
        found = self.sagemaker.found["endpoint"].values()
        return any(
            one["given"]["EndpointConfigName"] == model and one["state"] not in ("Failed", "Deleting") for one in found
        )

    def _runtime(self, operation, request, body):
        name = request.url.path.split("/")[2]
        if name not in self.sagemaker.found["endpoint"]:
            raise Refusal("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        if len(body) > LARGEST:
            raise Refusal("ValidationError", "Request size is too large")
        asked = urllib.request.Request(f"{self.container}/invocations", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return Response(answer.read(), media_type="application/json")
        except urllib.error.HTTPError as error:
            with error:
                told = error.read().decode()
            raise Refusal(
                "ModelError", f"Received client error ({error.code}) from primary with message {told!r}", 424
            ) from error


def _operation(request, body):
    target = request.headers.get("x-amz-target", "")
    if target:
        service, _, operation = target.partition(".")
        return ("sagemaker" if service == "SageMaker" else "ecr"), operation
    if request.url.path.startswith("/endpoints/"):
        return "runtime", "InvokeEndpoint"
    if request.url.path == "/":
        return "sts", urllib.parse.parse_qs(body.decode())["Action"][0]
    kind = "Object" if request.url.path.strip("/").partition("/")[2] else "Bucket"
    return "s3", f"{request.method.title()}{kind}"


def _content(request, body):
    """Return what was uploaded and the checksum that came with it, as header or as trailer."""
    if "aws-chunked" not in request.headers.get("content-encoding", ""):
        return body, request.headers["x-amz-checksum-sha256"]
    content = b""
    while True:
        line, _, body = body.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            return content, re.search(rb"x-amz-checksum-sha256:(\S+)", body)[1].decode()
        content, body = content + body[:size], body[size + 2 :]


def _refused(service, refusal):
    if service in ("s3", "sts"):
        inner = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message></Error>"
        return Response(
            inner if service == "s3" else f"<ErrorResponse>{inner}</ErrorResponse>",
            refusal.status,
            media_type="text/xml",
        )
    headers = {"x-amzn-errortype": refusal.code}
    told = {"__type": refusal.code, "message": refusal.message, "Message": refusal.message}
    return Response(json.dumps(told), refusal.status, headers, "application/x-amz-json-1.1")


@contextlib.contextmanager
def served(fake):
    """Serve a fake in a thread, and yield its address."""
    server = uvicorn.Server(uvicorn.Config(fake, host="127.0.0.1", port=0, log_level="critical", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
