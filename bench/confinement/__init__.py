"""Plugins run in processes of their own: forked clean, watched, limited, and ended with all that they started.

    harness ── asks ──► fork server (has imported much, has run nothing)
                             └─► warden (watches memory, processes, output; ends what is left)
                                     └─► plugin process (runs the plugin; an audit hook notes what it does)

The harness and the plugin process talk over a socket: pickles go to the plugin, and only JSON and arrays come back, so
that nothing of a plugin is unpickled by the harness. SECURITY.md says what this keeps out and what it does not.
"""
