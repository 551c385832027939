"""Which variables a deployment on this machine gets of its starter's environment."""

from unitrain.deployment.providers.local.service import passed_on

DROPPED = ("PORT", "AIP_HTTP_PORT", "SAGEMAKER_BIND_TO_PORT", "UNITRAIN_MODEL_DIR", "LISTEN_FDS", "NOTIFY_SOCKET")
KEPT = ("PATH", "PORTFOLIO", "PORT_RANGE", "NOTIFY_SOCKETS", "UNITRAIN_MODEL_DIRS", "UNITRAIN_TOKEN", "MY_PORT")


def test_variables_of_platforms_are_dropped_and_no_others():
    given = dict.fromkeys((*DROPPED, *KEPT), "x")
    assert passed_on(given) == dict.fromkeys(KEPT, "x")
