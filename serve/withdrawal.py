"""Takes Serve's parts away in order, when a server is told to stop.

`ray.serve.shutdown` would do, but it waits in a call that the controller never answers: it ends
itself meanwhile. Ray then says on standard output that ``ServeController.graceful_shutdown`` failed
and will be tried again, at every stop of every server. Here the controller is told, which it
answers, and awaited afterwards.
"""

import contextlib
import time

LIMIT_S = 30.0
"""As long as `ray.serve.shutdown` waits; what is there after it ends with Ray."""
LOOK_S = 0.1


def withdraw() -> None:
    """Return when applications, doors and controller are gone, or the time is over."""
    import ray  # not before Ray is needed
    from ray.serve._private.constants import SERVE_CONTROLLER_NAME, SERVE_NAMESPACE

    until = time.monotonic() + LIMIT_S
    # no actor of that name: it is gone
    with contextlib.suppress(ValueError, TimeoutError, ray.exceptions.RayActorError):
        controller = ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
        ray.get(controller.graceful_shutdown.remote(wait=False), timeout=LIMIT_S)
        while time.monotonic() < until:
            ray.get_actor(SERVE_CONTROLLER_NAME, namespace=SERVE_NAMESPACE)
            time.sleep(LOOK_S)
