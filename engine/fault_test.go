package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// TestProblem holds every answer of the gateway's own to RFC 9457 and to one shape.
func TestProblem(t *testing.T) {
	for _, f := range Faults() {
		var problem map[string]any
		if err := json.Unmarshal(f.appendProblem(nil, []byte("id-1"), ""), &problem); err != nil {
			t.Errorf("%s: %v", f.Reason, err)
			continue
		}
		want := map[string]any{
			"type": "about:blank", "title": statusTitle(f.Status), "status": float64(f.Status), "detail": f.Detail,
			"reason": f.Reason, "request_id": "id-1",
		}
		if fmt.Sprint(problem) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", problem, want)
		}
		if want["title"] == "" {
			t.Errorf("%s: status %d has no title", f.Reason, f.Status)
		}
	}
}

// TestReasonsAreDocumented keeps the README's table and the code the same.
func TestReasonsAreDocumented(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z_0-9]+)` \\| (\\d{3}) \\|").FindAllStringSubmatch(string(readme), -1) {
		documented[row[1]+" "+row[2]] = true
	}
	status, details := map[string]int{}, map[string]bool{}
	for _, f := range Faults() {
		if details[f.Detail] || status[f.Reason] != 0 && status[f.Reason] != f.Status {
			t.Errorf("two faults say %s: %q", f.Reason, f.Detail)
		}
		details[f.Detail], status[f.Reason] = true, f.Status
		if row := fmt.Sprintf("%s %d", f.Reason, f.Status); !documented[row] {
			t.Errorf("the README has no row for %s", row)
		}
	}
	for row := range documented {
		reason, code, _ := strings.Cut(row, " ")
		if strconv.Itoa(status[reason]) == code {
			continue
		}
		t.Errorf("the README has a row for %s, which is no fault", row)
	}
}

func TestFaultOfUpstream(t *testing.T) {
	for _, c := range []struct {
		intent string
		err    error
		reason string
		retry  bool
	}{
		{"nothing was sent", &upstream.Error{Phase: upstream.PhaseConnect, Err: syscall.ECONNREFUSED}, "upstream_connect", true},
		{"nothing was sent, in all that time", &upstream.Error{Phase: upstream.PhaseConnect, Err: os.ErrDeadlineExceeded}, "upstream_connect_timeout", true},
		{"the target may be at work on it: the method decides", &upstream.Error{Phase: upstream.PhaseHead, Err: os.ErrDeadlineExceeded}, "upstream_timeout", true},
		{"closed instead of answered", &upstream.Error{Phase: upstream.PhaseHead, Err: io.EOF}, "upstream_reset", true},
		{"an answer that is none: the method decides", &upstream.Error{Phase: upstream.PhaseHead, Err: wire.ErrStart}, "upstream_malformed", true},
		{"no target", upstream.ErrNoTarget, "no_healthy_target", true},
		{"no room", upstream.ErrBusy, "upstream_busy", false},
		{"anything else is our own", errors.New("?"), "internal", false},
	} {
		f := newFaults().ofUpstream(c.err)
		if f.Reason != c.reason || f.Retry != c.retry {
			t.Errorf("%s: %s, retry %v", c.intent, f.Reason, f.Retry)
		}
	}
}

func TestFaultOfHead(t *testing.T) {
	f := newFaults()
	for _, c := range []struct {
		err  error
		want *Fault
	}{
		{wire.ErrHeadTooLarge, f.headTooLarge},
		{wire.ErrTargetTooLong, f.targetTooLong},
		{wire.ErrVersion, f.version},
		{wire.ErrConflict, f.badRequest},
		{os.ErrDeadlineExceeded, f.timeout},
	} {
		if got := f.ofHead(c.err); got != c.want {
			t.Errorf("%v is answered %s, want %s", c.err, got.Reason, c.want.Reason)
		}
	}
}
