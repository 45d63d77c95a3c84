"""The command line of editkit: parse, call one library function, print."""
