// Package e2e tests the built gateway, as a process, between real clients and real upstreams.
package e2e
