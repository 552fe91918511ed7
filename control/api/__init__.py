"""The control API: HTTP on `control.listen`, for operators and their programs.

`app.create_api` puts it together; one module per noun of the API holds its routes: parse, one call to the
switchboard or the store, answer. What a request and an answer look like is in the `*_models` modules, and
the OpenAPI document is read off them.
"""
