"""The subcommands of `metered` that have to do with media.

`metered_anyio.cli.app` finds them as entry points (`metered.commands` in pyproject.toml), since imports point the other
way. Their modules are loaded for each `metered`, whatever it does: so they import aiortc and av when they run, only.
"""
