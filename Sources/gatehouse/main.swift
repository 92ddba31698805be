// The command: which subcommand, and its answer as an exit code: 0 done, 1 the input is wrong, 2 the command line is
// wrong, 3 the device or network failed.

import Platform

Process.keepStreams()
if Box.isThis { Box.run() }
Process.exit(Command.run(Process.arguments))
