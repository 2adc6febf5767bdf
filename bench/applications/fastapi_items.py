"""FastAPI as it is used: a body that is validated, a dependency, a response model."""

from typing import Annotated

import fastapi
import pydantic

app = fastapi.FastAPI()


class Item(pydantic.BaseModel):
    """What is sent."""

    name: Annotated[str, pydantic.Field(max_length=100)]
    price: Annotated[float, pydantic.Field(gt=0)]
    tags: list[str] = []


class Offer(pydantic.BaseModel):
    """What comes back."""

    item: Item
    total: float
    currency: str


def currency(accept_language: Annotated[str, fastapi.Header()] = "en") -> str:
    """By a header."""
    return "EUR" if accept_language.startswith("de") else "USD"


@app.post("/")
async def offer(item: Item, quantity: int, currency: Annotated[str, fastapi.Depends(currency)]) -> Offer:
    """For so many of an item."""
    return Offer(item=item, total=item.price * quantity, currency=currency)
