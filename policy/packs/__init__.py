"""Rule packs and the numbering plan: data, read by `policy.loader`."""
