package wire

// Host returns the value of the Host field of a request: one in HTTP/1.1, at most one in HTTP/1.0
// (RFC 9112, section 3.2). Without one it is nil; one that is empty is not. Anything else is ErrHost. What
// the value says is the caller's to judge. It does not allocate.
func Host(minor int, fields []Field) ([]byte, error) {
	var host []byte
	found := false
	for i := range fields {
		if !EqualFold(fields[i].Name, "host") {
			continue
		}
		if found {
			return nil, ErrHost
		}
		host, found = fields[i].Value, true
	}
	if !found && minor > 0 {
		return nil, ErrHost
	}
	return host, nil
}
