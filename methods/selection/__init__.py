"""Methods that pick real images: `select(train, ipc, ctx, *, ...) -> indices`."""
