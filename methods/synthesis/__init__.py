"""Methods that make images: `synthesize(train, ipc, ctx, *, ...) -> Condensed`."""
