-- What fastapi_items.py takes.
wrk.method = "POST"
wrk.path = "/?quantity=3"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept-Language"] = "de-CH"
wrk.body = '{"name": "A lamp", "price": 12.5, "tags": ["light", "home"]}'
