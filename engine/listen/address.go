package listen

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
)

type kind string

const (
	kindTCP     kind = "tcp"
	kindUnix    kind = "unix"
	kindSystemd kind = "systemd"
)

// place is an address that has been parsed; name is what follows the kind.
type place struct {
	kind kind
	name string
}

func parse(address string) (place, error) {
	fail := func(err error) (place, error) {
		return place{}, fmt.Errorf("cannot parse listen address %q: %w", address, err)
	}
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return fail(errors.New("a path must follow \"unix:\""))
		}
		return place{kindUnix, filepath.Clean(path)}, nil
	}
	if name, ok := strings.CutPrefix(address, "systemd:"); ok {
		if name == "" {
			return fail(errors.New("a name or number must follow \"systemd:\""))
		}
		return place{kindSystemd, name}, nil
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return fail(err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fail(errors.New("the port must be a number from 0 to 65535"))
	}
	return place{kindTCP, address}, nil
}

// String gives the one text that all ways to write the place share.
func (p place) String() string {
	if p.kind == kindTCP {
		return p.name
	}
	return string(p.kind) + ":" + p.name
}
