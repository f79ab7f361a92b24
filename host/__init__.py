"""The host: devices, links, conversion, compilation, command line."""
