"""Whether a door can do its work."""

from fastapi import APIRouter

from pipelines.plan import Record
from serve.doors.house import AHouse

router = APIRouter(tags=["health"])


class Health(Record):
    """A door that can reach the ledger."""

    status: str = "ok"


@router.get("/healthz", openapi_extra={"security": []})
def health(house: AHouse) -> Health:
    """200 while the ledger answers, 503 while it does not."""
    house.ledger.key_of("")
    return Health()
