"""The built-in rules, one family a file; `base` says how one is written, `policy.catalogue` lists them."""
