"""Read by optimum-cli, which imports every file of the namespace `optimum.commands.register`."""

import logging

# An error here would break every command of optimum-cli, its --help included.
try:
    from effbert.exporter.commands.optimum import REGISTER_COMMANDS
except Exception as error:
    logging.getLogger(__name__).warning("`optimum-cli export effbert` is unavailable: %s", error)
    REGISTER_COMMANDS = []
