package keystore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// maxRecord bounds a record in Redis, in bytes. The largest that passes auth.KeyRecord.Validate is smaller.
const maxRecord = 8 << 10

var (
	errLong  = errors.New("the record is too long")
	errTrail = errors.New("something follows the record")
	errRate  = errors.New(`want a rate such as "100/s", "20/min" or "5/1m30s"`)
)

// document is a record as JSON, in Redis. The digest is not in it but in the name of its key, so that no two
// places can disagree.
type document struct {
	ID       string     `json:"id"`
	Client   string     `json:"client"`
	Tier     string     `json:"tier,omitempty"`
	Scopes   string     `json:"scopes,omitempty"` // separated by spaces
	Rate     string     `json:"rate,omitempty"`   // "1000/h"
	Created  *time.Time `json:"created,omitempty"`
	Expires  *time.Time `json:"expires,omitempty"`
	Disabled bool       `json:"disabled,omitempty"`
}

// encodeRecord writes a record that is valid.
func encodeRecord(record *auth.KeyRecord) ([]byte, error) {
	if err := record.Validate(); err != nil {
		return nil, err
	}
	doc := document{
		ID:       record.ID,
		Client:   record.Client,
		Tier:     record.Tier,
		Scopes:   record.Scopes.String(),
		Rate:     formatRate(record.Rate),
		Created:  optional(record.Created),
		Expires:  optional(record.Expires),
		Disabled: record.Disabled,
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // six bytes for one would break the bound
	if err := e.Encode(doc); err != nil {
		return nil, fmt.Errorf("cannot write the record of key %q: %w", record.ID, err)
	}
	return bytes.TrimRight(b.Bytes(), "\n"), nil
}

// decodeRecord reads the record of a digest. It takes nothing but what encodeRecord could have written, spaces and
// the order of fields aside.
func decodeRecord(d auth.Digest, data []byte) (auth.KeyRecord, error) {
	if len(data) > maxRecord {
		return auth.KeyRecord{}, errLong
	}
	var doc document
	j := json.NewDecoder(bytes.NewReader(data))
	j.DisallowUnknownFields()
	if err := j.Decode(&doc); err != nil {
		return auth.KeyRecord{}, err
	}
	if _, err := j.Token(); err != io.EOF {
		return auth.KeyRecord{}, errTrail
	}
	record := auth.KeyRecord{ID: doc.ID, Digest: d, Client: doc.Client, Tier: doc.Tier, Disabled: doc.Disabled}
	var err error
	if record.Scopes, err = auth.NewScopes(strings.Fields(doc.Scopes)); err != nil {
		return auth.KeyRecord{}, err
	}
	if record.Rate, err = parseRate(doc.Rate); err != nil {
		return auth.KeyRecord{}, err
	}
	if doc.Created != nil {
		record.Created = doc.Created.UTC()
	}
	if doc.Expires != nil {
		record.Expires = doc.Expires.UTC()
	}
	return record, record.Validate()
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// formatRate writes a rate, and "" for none.
func formatRate(r auth.Rate) string {
	unit := r.Per.String()
	switch r.Per {
	case 0:
		return ""
	case time.Second:
		unit = "s"
	case time.Minute:
		unit = "min"
	case time.Hour:
		unit = "h"
	case 24 * time.Hour:
		unit = "d"
	}
	return strconv.FormatInt(r.N, 10) + "/" + unit
}

func parseRate(text string) (auth.Rate, error) {
	if text == "" {
		return auth.Rate{}, nil
	}
	digits, unit, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(digits, 10, 63)
	if err != nil {
		return auth.Rate{}, errRate
	}
	rate := auth.Rate{N: int64(n)}
	switch unit {
	case "s":
		rate.Per = time.Second
	case "min":
		rate.Per = time.Minute
	case "h":
		rate.Per = time.Hour
	case "d":
		rate.Per = 24 * time.Hour
	default:
		rate.Per, err = time.ParseDuration(unit)
	}
	if err != nil || rate.N < 1 || rate.Per <= 0 {
		return auth.Rate{}, errRate
	}
	return rate, nil
}
