// Command sluice is an API gateway: see sluice --help.
package main

import "os"

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

func main() { os.Exit(execute(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
